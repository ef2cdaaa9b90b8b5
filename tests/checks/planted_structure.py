"""Defects of functions, sparse tensors, references and types: each function plants one."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from planting import between, node, stored


def nameless(m):
    m.graph.name = ""


def loose_reference(m):
    m.graph.node[0].attribute.add(name="dilations", ref_attr_name="spread", type=7)


def unknown_reference(m):
    body = [helper.make_node("LeakyRelu", ["a"], ["b"], name="r")]
    body[0].attribute.add(name="alpha", ref_attr_name="slope", type=1)
    function(m, body=body)


def referring_and_holding(m):
    body = [helper.make_node("LeakyRelu", ["a"], ["b"], name="r", alpha=0.1)]
    body[0].attribute[0].ref_attr_name = "slope"
    function(m, body=body, attributes=["slope"])


def text_in_raw_data(m):
    m.graph.initializer.add(name="labels", dims=[1], data_type=8, raw_data=b"cats")


def inside_and_outside(m):
    tensor = m.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")


def sparse(m, positions, dims=(4,)):
    added = m.graph.sparse_initializer.add(dims=dims)
    added.values.CopyFrom(numpy_helper.from_array(np.ones(2, np.float32), "few"))
    added.indices.CopyFrom(numpy_helper.from_array(np.array(positions), "few_positions"))


def sparse_beyond(m):
    sparse(m, [1, 9])


def sparse_negative(m):
    sparse(m, [-1, 3])


def sparse_unsorted(m):
    sparse(m, [3, 1])


def sparse_repeated(m):
    sparse(m, [[1, 0], [1, 0]], (2, 2))


def sparse_rows_unsorted(m):
    sparse(m, [[1, 0], [0, 1]], (2, 2))


def sparse_short(m):
    sparse(m, [1])


def function(m, inputs=("a",), outputs=("b",), name="f", domain="my", opset=17, body=None, attributes=()):
    m.opset_import.add(domain="my", version=1)
    body = body or [helper.make_node("Relu", ["a"], ["b"], name="r")]
    imports = [helper.make_opsetid("", opset)]
    m.functions.append(helper.make_function(domain, name, inputs, outputs, body, imports, list(attributes)))
    results = ["new", *(f"more{index}" for index in range(1, len(outputs)))]
    call = helper.make_node(name, ["r2"] * len(inputs), results, name="call", domain=domain)
    between(m, 4, call)


def function_without_name(m):
    function(m)
    m.functions[0].name = ""


def function_without_domain(m):
    function(m, domain="")


def function_inputs_twice(m):
    function(m, inputs=("a", "a"))


def function_outputs_twice(m):
    function(m, outputs=("b", "b"))


def function_attributes_twice(m):
    function(m, attributes=("alpha", "alpha"))


def function_unsorted(m):
    nodes = [
        helper.make_node("Relu", ["c"], ["b"], name="r"),
        helper.make_node("Neg", ["a"], ["c"], name="n"),
    ]
    function(m, body=nodes)


def function_produces_twice(m):
    function(m, body=[helper.make_node(op, ["a"], ["b"], name=op) for op in ("Relu", "Neg")])


def function_of_another_opset(m):
    function(m, opset=11)


def input_twice(m):
    m.graph.input.append(m.graph.input[0])


def nameless_input(m):
    m.graph.input.append(helper.make_tensor_value_info("", 1, [1]))


def future_ir(m):
    m.ir_version = 99


def no_location(m):
    tensor = m.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="")


def folder_as_location(m):
    no_location(m)
    m.graph.initializer[0].external_data[0].value = "."


def field_of_another_type(m):
    m.graph.initializer[1].ClearField("raw_data")
    m.graph.initializer[1].int64_data.extend([0] * 8)


def two_values(m):
    m.graph.node[0].attribute[0].f = 1.0


def mixed_types(m):
    stored(m, "half", np.ones(8, np.float16))
    between(m, 6, node("Add", "f half", "new"))


def refused_type(m):
    between(m, 2, node("Cast", "r1", "new", to=TensorProto.BOOL))


def value_without_type(m):
    m.graph.value_info.append(helper.make_tensor_value_info("f", TensorProto.UNDEFINED, ["N", 8]))


def shadowed(m):
    info = [helper.make_tensor_value_info(name, 1, ["N", 8]) for name in ("a", "b")]
    inner = [
        helper.make_node("Relu", ["f"], ["c1"], name="t"),
        helper.make_node("Neg", ["c1"], ["a"], name="u"),
    ]
    then = helper.make_graph(inner, "yes", [], info[:1])
    other = helper.make_graph([helper.make_node("Neg", ["f"], ["b"], name="o")], "no", [], info[1:])
    m.graph.input.append(helper.make_tensor_value_info("which", TensorProto.BOOL, []))
    between(m, 6, node("If", "which", "new", then_branch=then, else_branch=other))


PLANTED = {
    "OX122": [function_produces_twice],
    "OX124": [input_twice, function_inputs_twice, function_outputs_twice, function_attributes_twice],
    "OX126": [nameless_input], "OX128": [shadowed], "OX130": [function_unsorted],
    "OX137": [text_in_raw_data, inside_and_outside, field_of_another_type],
    "OX138": [referring_and_holding, two_values], "OX142": [nameless],
    "OX143": [loose_reference, unknown_reference],
    "OX144": [
        sparse_beyond, sparse_negative, sparse_unsorted, sparse_repeated, sparse_rows_unsorted, sparse_short,
    ],
    "OX145": [function_without_name, function_without_domain], "OX146": [function_of_another_opset],
    "OX147": [future_ir], "OX150": [no_location, folder_as_location], "OX222": [value_without_type],
    "OX229": [mixed_types, refused_type],
}  # fmt: skip
