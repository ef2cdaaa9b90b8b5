"""Defects of the file, its names and its texts: each function plants one."""

import numpy as np
from onnx import TensorProto, helper
from planting import between, node, stored


def no_ir(m):
    m.ir_version = 0


def old_ir(m):
    m.ir_version = 3


def no_import(m):
    m.opset_import[0].domain = "elsewhere"


def two_imports(m):
    m.opset_import.add(domain="ai.onnx", version=13)


def needless_import(m):
    m.opset_import.add(domain="com.microsoft", version=1)


def future(m):
    m.opset_import[0].version = 999


def misspelt(m):
    m.graph.node[1].op_type = "Reluu"


def too_new(m):
    m.graph.node[1].op_type = "Gelu"


def deprecated(m):
    m.graph.node[1].op_type = "Upsample"
    m.graph.node[1].input.append("b1")


def extra_attribute(m):
    m.graph.node[1].attribute.append(helper.make_attribute("alpha", 0.1))


def missing_attribute(m):
    between(m, 6, node("Cast", "f", "new"))


def three_inputs(m):
    m.graph.node[1].input.append("b1")


def repeated_attribute(m):
    m.graph.node[0].attribute.append(m.graph.node[0].attribute[0])


def unnamed(m):
    m.graph.node[1].name = ""


def namesakes(m):
    m.graph.node[3].name = "relu1"


def produced_twice(m):
    m.graph.node[3].output[0] = "r1"


def stored_twice(m):
    m.graph.initializer.append(m.graph.initializer[0])


def listed_twice(m):
    m.graph.output.append(m.graph.output[0])


def repeated_key(m):
    m.metadata_props.add(key="a", value="1")
    m.metadata_props.add(key="a", value="2")


def nameless_initializer(m):
    m.graph.initializer.add(dims=[1], data_type=1, raw_data=bytes(4))


def dangling(m):
    m.graph.node[1].input[0] = "c1_typo"


def unsorted(m):
    first = m.graph.node[0]
    del m.graph.node[0]
    m.graph.node.append(first)


def circle(m):
    m.graph.node[0].input[0] = "r1"


def hollow(m):
    m.graph.initializer[0].ClearField("raw_data")


def cut_short(m):
    m.graph.initializer[0].raw_data = m.graph.initializer[0].raw_data[:-4]


def untyped_tensor(m):
    m.graph.initializer[0].data_type = 0


def two_fields(m):
    m.graph.initializer[1].float_data.extend([0] * 8)


def no_outputs(m):
    del m.graph.output[:]


def lost_file(m):
    tensor = m.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")


def stolen_file(m):
    lost_file(m)
    m.graph.initializer[0].external_data[0].value = "/etc/passwd"


def bloated(m):
    m.doc_string = "d" * 20000


def python_op(m):
    m.opset_import.add(domain="com.microsoft", version=1)
    between(m, 4, node("PythonOp", "r2", "new", domain="com.microsoft"))


def home_path(m):
    m.doc_string = "traced from /home/jane/nets/digits.py"


def address(m):
    m.metadata_props.add(key="author", value="jane@example.com")


def link(m):
    m.metadata_props.add(key="data", value="see https://data.example.com/x")


def token(m):
    m.metadata_props.add(key="token", value="hf_" + "aB3" * 12)


def program(m):
    data = np.frombuffer(b"\x7fELF\x02\x01\x01" + bytes(57), np.uint8)
    stored(m, "payload", data)


def escape(m):
    m.graph.node[1].name = "relu1\x1b[2J"


def endless_name(m):
    m.graph.node[1].name = "r" * 5000


PLANTED = {
    "OX101": [no_ir], "OX102": [no_import], "OX103": [two_imports], "OX104": [needless_import],
    "OX105": [future], "OX107": [misspelt], "OX108": [too_new], "OX109": [deprecated],
    "OX110": [extra_attribute], "OX111": [missing_attribute], "OX112": [three_inputs],
    "OX113": [repeated_attribute], "OX120": [unnamed], "OX121": [namesakes], "OX122": [produced_twice],
    "OX123": [stored_twice], "OX124": [listed_twice], "OX125": [repeated_key],
    "OX126": [nameless_initializer], "OX127": [dangling], "OX130": [unsorted], "OX131": [circle],
    "OX134": [hollow], "OX135": [cut_short], "OX136": [untyped_tensor], "OX137": [two_fields],
    "OX139": [old_ir], "OX140": [no_outputs], "OX150": [lost_file], "OX157": [bloated],
    "OX801": [stolen_file], "OX803": [python_op], "OX804": [home_path], "OX805": [home_path, address],
    "OX806": [link], "OX807": [token], "OX808": [program], "OX809": [escape], "OX810": [endless_name],
}  # fmt: skip
