"""The protobuf message of Sparkplug B, as far as its metrics can be channels."""

from __future__ import annotations

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError as DecodeError
from google.protobuf.message import Message as Protobuf

_TYPES = descriptor_pb2.FieldDescriptorProto
_METRIC = (
    ("name", 1, _TYPES.TYPE_STRING), ("alias", 2, _TYPES.TYPE_UINT64), ("timestamp", 3, _TYPES.TYPE_UINT64),
    ("datatype", 4, _TYPES.TYPE_UINT32), ("is_historical", 5, _TYPES.TYPE_BOOL), ("is_null", 7, _TYPES.TYPE_BOOL),
    ("int_value", 10, _TYPES.TYPE_UINT32), ("long_value", 11, _TYPES.TYPE_UINT64),
    ("float_value", 12, _TYPES.TYPE_FLOAT), ("double_value", 13, _TYPES.TYPE_DOUBLE),
    ("boolean_value", 14, _TYPES.TYPE_BOOL), ("string_value", 15, _TYPES.TYPE_STRING),
)  # fmt: skip
"""The part of the published definition that can be a channel's value; the rest is skipped as unknown fields."""


def _payload_type() -> type[Protobuf]:
    """The class of a payload, from the definition above (proto2, so that presence is known)."""
    file = descriptor_pb2.FileDescriptorProto(name="brewair/sparkplug_b.proto", package="brewair.sparkplug")
    payload, metric = file.message_type.add(name="Payload"), file.message_type.add(name="Metric")
    for name, number, kind in _METRIC:
        metric.field.add(name=name, number=number, type=kind, label=_TYPES.LABEL_OPTIONAL)
    payload.field.add(name="timestamp", number=1, type=_TYPES.TYPE_UINT64, label=_TYPES.LABEL_OPTIONAL)
    payload.field.add(
        name="metrics", number=2, type=_TYPES.TYPE_MESSAGE, type_name=".brewair.sparkplug.Metric", label=_TYPES.LABEL_REPEATED
    )  # fmt: skip
    payload.field.add(name="seq", number=3, type=_TYPES.TYPE_UINT64, label=_TYPES.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("brewair.sparkplug.Payload"))


Payload = _payload_type()
