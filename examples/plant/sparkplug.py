"""An edge node of Sparkplug B and its host, which count their values themselves (Eclipse Sparkplug 3.0.0).

Payloads are written and read by Google's protobuf; the messages are described here as the specification's table of fields says
(6.4), so that nothing has to be generated. A metric is one value, a table as many as it has cells, a template as many as it has members
and parameters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

NAMESPACE: Final = "spBv1.0"

# Name, number, type; `*` is repeated. Properties, metadata and extensions are not written here.
_FIELDS: Final[Mapping[str, Sequence[tuple[str, int, str]]]] = {
    "Cell": [("int_value", 1, "uint32"), ("long_value", 2, "uint64"), ("double_value", 4, "double"), ("boolean_value", 5, "bool"),
             ("string_value", 6, "string")],
    "Row": [("elements", 1, "*Cell")],
    "DataSet": [("num_of_columns", 1, "uint64"), ("columns", 2, "*string"), ("types", 3, "*uint32"), ("rows", 4, "*Row")],
    "Parameter": [("name", 1, "string"), ("type", 2, "uint32"), ("double_value", 6, "double"), ("string_value", 8, "string")],
    "Template": [("version", 1, "string"), ("metrics", 2, "*Metric"), ("parameters", 3, "*Parameter"), ("template_ref", 4, "string"),
                 ("is_definition", 5, "bool")],
    "Metric": [("name", 1, "string"), ("alias", 2, "uint64"), ("timestamp", 3, "uint64"), ("datatype", 4, "uint32"),
               ("is_null", 7, "bool"), ("int_value", 10, "uint32"), ("long_value", 11, "uint64"), ("float_value", 12, "float"),
               ("double_value", 13, "double"), ("boolean_value", 14, "bool"), ("string_value", 15, "string"), ("bytes_value", 16, "bytes"),
               ("dataset_value", 17, "DataSet"), ("template_value", 18, "Template")],
    "Payload": [("timestamp", 1, "uint64"), ("metrics", 2, "*Metric"), ("seq", 3, "uint64"), ("uuid", 4, "string"), ("body", 5, "bytes")],
}  # fmt: skip


def _described() -> Any:  # Any: a class that protobuf makes
    file = descriptor_pb2.FileDescriptorProto(name="hopwatch/sparkplug.proto", package="hopwatch.sparkplug", syntax="proto2")
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for field_name, number, text in fields:
            kind = text.removeprefix("*")
            label = kinds.LABEL_REPEATED if text.startswith("*") else kinds.LABEL_OPTIONAL
            if kind in _FIELDS:
                of = f".hopwatch.sparkplug.{kind}"
                message.field.add(name=field_name, number=number, label=label, type=kinds.TYPE_MESSAGE, type_name=of)
            else:
                message.field.add(name=field_name, number=number, label=label, type=getattr(kinds, f"TYPE_{kind.upper()}"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("hopwatch.sparkplug.Payload"))


Payload: Final = _described()


@dataclass(frozen=True, slots=True)
class Table:
    """A DataSet: its columns, and rows of cells."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str | float]]


@dataclass(frozen=True, slots=True)
class Template:
    """An instance of a template."""

    of: str
    members: Mapping[str, "Value"]
    parameters: Mapping[str, float] = field(default_factory=dict)


Value = bool | int | float | str | bytes | None | Table | Template


def values_in(value: Value) -> int:
    """As many values as the publisher says something is."""
    if isinstance(value, Table):
        return max(1, sum(len(row) for row in value.rows))
    if isinstance(value, Template):
        return max(1, sum(values_in(one) for one in value.members.values()) + len(value.parameters))
    return 1


def values_of(payload: bytes) -> int:
    """As many values as a subscriber reads out of a payload."""
    read = Payload()
    read.ParseFromString(payload)
    return sum(_values_of(metric) for metric in read.metrics)


def _values_of(metric: Any) -> int:  # Any: a message that protobuf made
    held = 0
    if metric.HasField("dataset_value"):
        held = sum(len(row.elements) for row in metric.dataset_value.rows)
    elif metric.HasField("template_value"):
        template = metric.template_value
        held = sum(_values_of(one) for one in template.metrics) + len(template.parameters)
    return max(1, held)


class EdgeNode:
    """Writes one edge node's messages; names go with aliases in births, and data with aliases alone."""

    def __init__(self, group: str, node: str) -> None:
        self.group, self.node = group, node
        self.sequence = 0
        self.aliases: dict[str, int] = {}

    def topic(self, verb: str, device: str | None = None) -> str:
        """Where a message goes (4.1)."""
        return "/".join([NAMESPACE, self.group, verb, self.node, *([device] if device else [])])

    def birth(self, metrics: Mapping[str, Value]) -> tuple[bytes, int]:
        """The payload of a birth, and its values."""
        for name in metrics:
            self.aliases.setdefault(name, len(self.aliases) + 1)
        return self.payload(metrics, named=True, aliased=True)

    def data(self, metrics: Mapping[str, Value]) -> tuple[bytes, int]:
        """The payload of data, whose metrics have aliases alone, and its values."""
        return self.payload(metrics, named=False, aliased=True)

    def payload(self, metrics: Mapping[str, Value], *, named: bool = True, aliased: bool = False) -> tuple[bytes, int]:
        """A payload, and the values in it."""
        written = Payload(timestamp=1_775_000_000_000, seq=self.sequence)
        self.sequence = (self.sequence + 1) % 256
        for name, value in metrics.items():
            metric = written.metrics.add(timestamp=1_775_000_000_000)
            if named:
                metric.name = name
            if aliased:
                metric.alias = self.aliases[name]
            _write(metric, value)
        return bytes(written.SerializeToString()), sum(values_in(value) for value in metrics.values())


def _write(metric: Any, value: Value) -> None:  # Any: a message that protobuf made
    match value:
        case None:
            metric.is_null = True
        case bool():
            metric.boolean_value = value
        case int():
            metric.long_value = value
        case float():
            metric.double_value = value
        case str():
            metric.string_value = value
        case bytes():
            metric.bytes_value = value
        case Table():
            table = metric.dataset_value
            table.num_of_columns = len(value.columns)
            table.columns.extend(value.columns)
            for cells in value.rows:
                row = table.rows.add()
                for cell in cells:
                    element = row.elements.add()
                    if isinstance(cell, str):
                        element.string_value = cell
                    else:
                        element.double_value = cell
        case Template():
            template = metric.template_value
            template.template_ref = value.of
            for name, member in value.members.items():
                _write(template.metrics.add(name=name), member)
            for name, number in value.parameters.items():
                template.parameters.add(name=name, double_value=number)
