"""onnxruntime's texts, as its wheels really printed them, in one readable line."""

import pytest

from onnxscope.complaints import plain

WEBGPU = (
    "/onnxruntime_src/onnxruntime/core/providers/webgpu/webgpu_context.cc:65 "
    "onnxruntime::webgpu::WebGpuContext::Initialize(const "
    "onnxruntime::webgpu::WebGpuContextConfig&)::<lambda()>::<lambda(wgpu::RequestAdapterStatus, "
    "wgpu::Adapter, wgpu::StringView, wgpu::Adapter*)> status == wgpu::RequestAdapterStatus::Success "
    "was false. Failed to get a WebGPU adapter: No supported adapters\n"
)
OPENVINO = (
    "/onnxruntime/onnxruntime/python/onnxruntime_pybind_state.cc:1053 "
    "std::shared_ptr<onnxruntime::IExecutionProviderFactory> "
    "onnxruntime::python::CreateExecutionProviderFactoryInstance(const onnxruntime::SessionOptions&, "
    "const std::string&, const onnxruntime::ProviderOptionsMap&) Invalid OpenVINO EP option: x"
)
CUDA = (
    "\x1b[1;31m2026-11-22 18:14:28.301442529 [E:onnxruntime:Default, provider_bridge_ort.cc:2458 "
    "operator()] /onnxruntime_src/onnxruntime/core/session/provider_bridge_ort.cc:2043 "
    "onnxruntime::Provider& onnxruntime::ProviderLibrary::Get() [ONNXRuntimeError] : 1 : FAIL : "
    "Failed to load library /a/b.so with error: libcublasLt.so.13: cannot open shared object file: "
    "No such file or directory"
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (WEBGPU, "Failed to get a WebGPU adapter: No supported adapters"),
        (OPENVINO, "Invalid OpenVINO EP option: x"),
        (
            CUDA,
            "Failed to load library /a/b.so with error: libcublasLt.so.13: "
            "cannot open shared object file: No such file or directory",
        ),
        ("[ONNXRuntimeError] : 1 : FAIL : no kernel", "no kernel"),
        ("/a/b.cc:1 void Run(T) [with T = int] failed", "[with T = int] failed"),
        ("/a/b.cc:1 no signature here", "no signature here"),
        ("two\n lines of\ttext", "two lines of text"),
        ("", ""),
    ],
)
def test_plain(text, said):
    assert plain(text) == said
