"""Defects of interface, shapes and graph: each function plants one."""

import numpy as np
from onnx import TensorProto, helper
from planting import between, node, stored


def untyped_input(m):
    m.graph.input[0].type.Clear()


def shapeless(m):
    m.graph.output[0].type.tensor_type.ClearField("shape")


def anonymous(m):
    m.graph.input[0].type.tensor_type.shape.dim[0].Clear()


def made_up_name(m):
    for info in (m.graph.input[0], m.graph.output[0]):
        info.type.tensor_type.shape.dim[0].dim_param = "unk__7"


def negative(m):
    m.graph.input[0].type.tensor_type.shape.dim[2].dim_value = -1


def replaceable(m):
    m.graph.input.append(helper.make_tensor_value_info("b1", 1, [8]))


def phantom(m):
    m.graph.output.append(helper.make_tensor_value_info("nowhere", 1, [1]))


def unread(m):
    m.graph.input.append(helper.make_tensor_value_info("mask", 1, ["N"]))


def constant_output(m):
    m.graph.output.append(helper.make_tensor_value_info("b1", 1, [8]))


def fixed_batch(m):
    for info in (m.graph.input[0], m.graph.output[0]):
        info.type.tensor_type.shape.dim[0].dim_value = 4


def unpadded(m):
    m.graph.node[0].attribute[1].ints[:] = [0, 0, 0, 0]


def too_small(m):
    unpadded(m)
    m.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 2


def container(m):
    m.graph.node.append(node("SequenceConstruct", "scores", "list"))
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, ["N", 10]))
    m.graph.output.append(helper.make_value_info("list", kind))


def double_output(m):
    m.graph.node.append(node("Cast", "scores", "wide", to=TensorProto.DOUBLE))
    m.graph.output.append(helper.make_tensor_value_info("wide", TensorProto.DOUBLE, ["N", 10]))


def long_integers(m):
    stored(m, "table", np.arange(100))
    m.graph.node.append(node("Gather", "table batch", "looked_up"))
    m.graph.input.append(helper.make_tensor_value_info("batch", TensorProto.INT64, ["N"]))
    m.graph.output.append(helper.make_tensor_value_info("looked_up", TensorProto.INT64, ["N"]))


def wrong_output(m):
    m.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 11


def fixed_output(m):
    m.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1


def stale(m):
    m.graph.value_info.append(helper.make_tensor_value_info("f", 1, ["N", 9]))


def wrong_type(m):
    m.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16


def misfit(m):
    stored(m, "w4", np.ones((10, 9), np.float32))
    m.graph.node[6].input[1] = "w4"


def baked_batch(m):
    stored(m, "s", np.array([1, 8]))
    m.graph.node[5].CopyFrom(node("Reshape", "p s", "f"))


def folded_batch(m):
    stored(m, "s", np.array([1, -1]))
    m.graph.node[5].CopyFrom(node("Reshape", "p s", "f"))


def baked_size(m):
    stored(m, "positions", np.ones((1, 8, 28, 28), np.float32))
    between(m, 4, node("Add", "r2 positions", "new"))


def mystery(m):
    m.opset_import.add(domain="my", version=1)
    between(m, 4, node("Mystery", "r2", "new", domain="my"))


def ceil_pool(m):
    for axis in (2, 3):
        m.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = 3
    pool = dict(kernel_shape=[2, 2], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1)
    between(m, 4, node("MaxPool", "r2", "new", **pool))


def channels_last(m):
    del m.graph.input[0].type.tensor_type.shape.dim[:]
    for size in ("N", "H", "W"):
        m.graph.input[0].type.tensor_type.shape.dim.add(dim_param=size)
    m.graph.input[0].type.tensor_type.shape.dim.add(dim_value=1)
    between(m, 0, node("Transpose", "image", "new", perm=[0, 3, 1, 2]))


def dead(m):
    m.graph.node.append(node("Neg", "f", "nobody"))


def identity(m):
    between(m, 4, node("Identity", "r2", "new"))


def same_cast(m):
    between(m, 4, node("Cast", "r2", "new", to=1))


def there_and_back(m):
    cast = helper.make_node("Cast", ["r2"], ["half"], name="down", to=10)
    between(m, 4, cast, node("Cast", "half", "new", to=1))


def two_transposes(m):
    first = helper.make_node("Transpose", ["r2"], ["t"], name="first", perm=[0, 2, 3, 1])
    between(m, 4, first, node("Transpose", "t", "new", perm=[0, 3, 1, 2]))


def idle_transpose(m):
    between(m, 5, node("Transpose", "p", "new", perm=[0, 2, 3, 1]))


def two_flattens(m):
    stored(m, "s", np.array([-1, 4, 2]))
    first = helper.make_node("Reshape", ["p", "s"], ["q"], name="first")
    between(m, 6, first, node("Flatten", "q", "new"))
    del m.graph.node[5]


def flat_twice(m):
    between(m, 6, node("Flatten", "f", "new"))


def relu_twice(m):
    between(m, 4, node("Relu", "r2", "new"))


def dropping(m):
    stored(m, "ratio", np.float32(0.5))
    stored(m, "yes", np.bool_(True))
    between(m, 6, node("Dropout", "f ratio yes", "new"))


def idle_dropout(m):
    between(m, 6, node("Dropout", "f", "new"))


def normalized(m, **attributes):
    for name in "sbmv":
        stored(m, name, np.ones(8, np.float32))
    between(m, 3, node("BatchNormalization", "c2 s b m v", "new", **attributes))


def training_norm(m):
    for name in "sbmv":
        stored(m, name, np.ones(8, np.float32))
    between(m, 3, node("BatchNormalization", "c2 s b m v", "new m2 v2", training_mode=1))


def noisy(m):
    noise = helper.make_node("RandomNormalLike", ["f"], ["noise"], name="draw")
    between(m, 6, noise, node("Add", "f noise", "new"))


def loss(m):
    m.graph.input.append(helper.make_tensor_value_info("labels", TensorProto.INT64, ["N"]))
    m.graph.node.append(node("SoftmaxCrossEntropyLoss", "scores labels", "loss"))
    m.graph.output.append(helper.make_tensor_value_info("loss", 1, []))


def one_way(m):
    stored(m, "yes", np.bool_(True))
    info = [helper.make_tensor_value_info(name, 1, ["N", 8]) for name in ("a", "b")]
    then = helper.make_graph([helper.make_node("Relu", ["f"], ["a"], name="t")], "yes", [], info[:1])
    other = helper.make_graph([helper.make_node("Neg", ["f"], ["b"], name="o")], "no", [], info[1:])
    between(m, 6, node("If", "yes", "new", then_branch=then, else_branch=other))


def computed_constant(m):
    stored(m, "c", np.ones(8, np.float32))
    between(m, 6, node("Neg", "c", "d"), node("Add", "f d", "new"))
    m.graph.node[7].input[0] = "f"
    m.graph.node[8].input[0] = "new"


def scaled(m):
    stored(m, "two", np.float32(2))
    between(m, 1, node("Mul", "c1 two", "new"))


def padded(m):
    stored(m, "pads", np.array([0, 0, 1, 1, 0, 0, 1, 1]))
    between(m, 2, node("Pad", "r1 pads", "new"))


def computed_twice(m):
    first = helper.make_node("Relu", ["c2"], ["again"], name="again")
    between(m, 4, first, node("Add", "r2 again", "new"))


def enormous(m):
    for axis, size in enumerate((1, 1, 4096, 4096)):
        m.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = size
    m.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1


def uncalled(m):
    m.opset_import.add(domain="my", version=1)
    body = [helper.make_node("Relu", ["a"], ["b"], name="r")]
    imports = [helper.make_opsetid("", 17)]
    m.functions.append(helper.make_function("my", "f", ["a"], ["b"], body, imports))


def image_softmax(m):
    between(m, 2, node("Softmax", "r1", "new"))


def indices(m):
    pool = dict(kernel_shape=[2, 2], strides=[2, 2])
    between(m, 4, node("MaxPool", "r2", "new where", **pool))


def known_shape(m):
    m.graph.node.append(node("Shape", "b1_moved", "size"))
    m.graph.input.append(helper.make_tensor_value_info("b1_moved", 1, [8]))
    m.graph.output.append(helper.make_tensor_value_info("size", TensorProto.INT64, [1]))


def flat_head(m):
    stored(m, "w4", np.ones((10, 8 * 4 * 4), np.float32))
    for axis in (2, 3):
        m.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = 4
    m.graph.node[5].input[0] = "r2"
    m.graph.node[6].input[1] = "w4"
    del m.graph.node[4]


PLANTED = {
    "OX201": [untyped_input], "OX202": [shapeless], "OX203": [anonymous], "OX204": [made_up_name],
    "OX205": [negative], "OX206": [replaceable], "OX207": [phantom], "OX208": [unread],
    "OX209": [constant_output], "OX210": [fixed_batch], "OX212": [unpadded], "OX213": [too_small],
    "OX214": [container], "OX215": [double_output], "OX216": [long_integers],
    "OX220": [wrong_output, fixed_output], "OX221": [stale], "OX222": [wrong_type], "OX223": [misfit],
    "OX224": [baked_batch, folded_batch], "OX225": [baked_size], "OX226": [mystery], "OX227": [ceil_pool],
    "OX228": [channels_last], "OX501": [dead], "OX502": [identity], "OX503": [same_cast],
    "OX504": [there_and_back], "OX505": [two_transposes], "OX506": [idle_transpose],
    "OX507": [two_flattens], "OX508": [flat_twice], "OX509": [relu_twice], "OX510": [dropping],
    "OX511": [training_norm], "OX512": [noisy], "OX513": [loss], "OX514": [idle_dropout],
    "OX515": [one_way], "OX521": [flat_head], "OX522": [computed_constant], "OX523": [normalized],
    "OX524": [normalized], "OX525": [scaled], "OX526": [padded], "OX527": [computed_twice],
    "OX528": [enormous], "OX529": [uncalled], "OX530": [image_softmax], "OX531": [indices],
    "OX532": [known_shape], "OX802": [mystery],
}  # fmt: skip
