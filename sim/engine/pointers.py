"""A world of arrays behind one pointer, for kernels that share much state.

Handing forty arrays from kernel to kernel costs more than the kernels do. So the arrays' addresses
lie in a table, and kernels pass on the table's address. `w.name[i]` is then a load of the array's
address and an access without bounds check or reference count. Arrays of records give records,
whose fields can be read and set: `w.slot[i].key = 3`. The arrays' owner must outlive the call.

With NUMBA_DISABLE_JIT=1 the same kernels run as Python, see `plain_table`.
"""

import hashlib
import operator
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.core.imputils import lower_setattr_generic
from numba.core.typing.templates import (
    AbstractTemplate,
    AttributeTemplate,
    infer,
    infer_global,
    signature,
)
from numba.extending import (
    infer_getattr,
    intrinsic,
    lower_builtin,
    lower_getattr,
    lower_getattr_generic,
    models,
    register_model,
)
from numba.np import numpy_support

from vsim.sim.engine.plain_table import PlainTable, call_object

COMPILED = not getattr(config, "DISABLE_JIT")  # noqa: B009 - numba adds it at run time


def _short(described: object) -> str:
    """A type's name goes into every symbol of the kernels that take it: all its fields spelled out
    made half of what a compiler read."""
    return hashlib.sha256(str(described).encode()).hexdigest()[:8]


class Table(types.Type):
    """The type of a table of arrays.

    Args:
        name: tells tables apart; part of every kernel's signature.
        fields: element dtype of each array, in the order of the addresses.
    """

    def __init__(self, name: str, fields: tuple[tuple[str, "np.dtype[Any]"], ...]) -> None:
        self.dtypes = dict(fields)
        self.places = {field: place for place, (field, _) in enumerate(fields)}
        self.elements = {field: numpy_support.from_dtype(dtype) for field, dtype in fields}
        super().__init__(name=f"Table({name}, {_short(fields)})")


class Fields(types.Type):
    """The type of one record of an array of a table, in place.

    Its integers are read as int64, see `Elements`, and are cut to their stored width when set.
    """

    def __init__(self, record: types.Record) -> None:
        self.record = record
        super().__init__(name=f"Fields({_short(record)})")


class Elements(types.Type):
    """The type of an array of a table: its elements without its length.

    Integers are read as int64, however they are stored: numba compiles a kernel again for every
    width of integer that it meets.
    """

    def __init__(self, element: types.Type) -> None:
        self.element = element
        self.read = _read_as(element)
        super().__init__(name=f"Elements({_short(element)})")


def _read_as(stored: types.Type) -> types.Type:
    if isinstance(stored, types.Record):
        return Fields(stored)
    return types.int64 if isinstance(stored, types.Integer) else stored


register_model(Table)(models.OpaqueModel)
register_model(Fields)(models.OpaqueModel)
register_model(Elements)(models.OpaqueModel)


@infer_getattr
class _TableAttributes(AttributeTemplate):
    key = Table

    def generic_resolve(  # type: ignore[override]  # a placeholder in the base class
        self, table: Table, name: str
    ) -> Any:
        element = table.elements.get(name)
        return None if element is None else Elements(element)


@lower_getattr_generic(Table)
def _array_of(context: Any, builder: Any, table: Table, value: Any, name: str) -> Any:
    pointer = ir.IntType(8).as_pointer()
    addresses = builder.bitcast(value, pointer.as_pointer())
    place = ir.Constant(ir.IntType(64), table.places[name])
    address = builder.load(builder.gep(addresses, [place]))
    # arrays move between calls only, so a store to one of them can't change where another one lies
    address.set_metadata("invariant.load", builder.module.add_metadata([]))
    return address


def _element(context: Any, builder: Any, elements: Elements, base: Any, index: Any) -> Any:
    """Pointer to an element, of its type in memory."""
    data = context.get_data_type(elements.element)
    array = builder.bitcast(base, data.as_pointer())
    return builder.gep(array, [index])


@infer_global(operator.getitem)
class _GetItem(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        if len(args) == 2 and isinstance(args[0], Elements) and isinstance(args[1], types.Integer):
            return signature(args[0].read, args[0], types.intp)
        return None


@lower_builtin(operator.getitem, Elements, types.Integer)
def _get(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    elements = sig.args[0]
    pointer = _element(context, builder, elements, *args)
    if isinstance(elements.element, types.Record):
        return builder.bitcast(pointer, ir.IntType(8).as_pointer())
    model = context.data_model_manager[elements.element]
    value = model.load_from_data_pointer(builder, pointer)
    return context.cast(builder, value, elements.element, elements.read)


@infer_global(operator.setitem)
class _SetItem(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        if len(args) == 3 and isinstance(args[0], Elements) and isinstance(args[1], types.Integer):
            array = args[0]
            records = isinstance(array.element, types.Record)
            return signature(
                types.none, array, types.intp, array.read if records else array.element
            )
        return None


@lower_builtin(operator.setitem, Elements, types.Integer, types.Any)
def _set(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    base, index, value = args
    pointer = _element(context, builder, sig.args[0], base, index)
    if isinstance(sig.args[0].element, types.Record):
        size = ir.Constant(ir.IntType(64), sig.args[0].element.size)
        cgutils.raw_memcpy(builder, pointer, builder.bitcast(value, pointer.type), size, 1)
    else:
        model = context.data_model_manager[sig.args[0].element]
        builder.store(model.as_data(builder, value), pointer)
    return context.get_dummy_value()


@infer_getattr
class _FieldsAttributes(AttributeTemplate):
    key = Fields

    def generic_resolve(  # type: ignore[override]  # a placeholder in the base class
        self, fields: Fields, name: str
    ) -> Any:
        return _read_as(fields.record.typeof(name)) if name in fields.record.fields else None


def _field(context: Any, builder: Any, fields: Fields, base: Any, name: str) -> tuple[Any, ...]:
    """Pointer to a field, its stored type, and its alignment as numba's packing takes it."""
    stored = fields.record.typeof(name)
    data = context.get_data_type(stored).as_pointer()
    pointer = cgutils.pointer_add(builder, base, fields.record.offset(name), data)
    return pointer, stored, None if fields.record.aligned else 1


@lower_getattr_generic(Fields)
def _get_field(context: Any, builder: Any, fields: Fields, value: Any, name: str) -> Any:
    pointer, stored, alignment = _field(context, builder, fields, value, name)
    found = context.unpack_value(builder, stored, pointer, alignment)
    return context.cast(builder, found, stored, _read_as(stored))


@lower_setattr_generic(Fields)
def _set_field(context: Any, builder: Any, sig: Any, args: Any, name: str) -> Any:
    pointer, stored, alignment = _field(context, builder, sig.args[0], args[0], name)
    value = context.cast(builder, args[1], sig.args[1], stored)
    context.pack_value(builder, stored, value, pointer, alignment)
    return context.get_dummy_value()


@infer
class _GetItemByName(AbstractTemplate):
    key = "static_getitem"

    def generic(self, args: Any, kws: Any) -> Any:
        fields, name = args
        if isinstance(fields, Fields) and name in fields.record.fields:
            return signature(_read_as(fields.record.typeof(name)), *args)
        return None


@infer
class _SetItemByName(AbstractTemplate):
    key = "static_setitem"

    def generic(self, args: Any, kws: Any) -> Any:
        fields, name, value = args
        if isinstance(fields, Fields) and name in fields.record.fields:
            return signature(types.none, fields, types.literal(name), value)
        return None


@lower_builtin("static_getitem", Fields, types.StringLiteral)
def _get_by_name(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return _get_field(context, builder, sig.args[0], *args)


@lower_builtin("static_setitem", Fields, types.StringLiteral, types.Any)
def _set_by_name(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    fields, _, stored = sig.args
    base, name, value = args
    return _set_field(context, builder, signature(types.none, fields, stored), (base, value), name)


@infer_getattr
class _ElementsAttributes(AttributeTemplate):
    """What a kernel that hands an array on to C asks of it, under the names that numpy gives."""

    key = Elements

    def resolve_ctypes(self, elements: Elements) -> types.Type:
        return elements

    def resolve_data(self, _: Elements) -> types.Type:
        return types.intp

    def resolve_itemsize(self, _: Elements) -> types.Type:
        return types.intp

    def resolve_strides(self, _: Elements) -> types.Type:
        return types.UniTuple(types.intp, 1)


@lower_getattr(Elements, "ctypes")
def _ctypes(context: Any, builder: Any, elements: Elements, value: Any) -> Any:
    return value


@lower_getattr(Elements, "data")
def _data(context: Any, builder: Any, elements: Elements, value: Any) -> Any:
    return builder.ptrtoint(value, ir.IntType(64))


def _item_bytes(context: Any, elements: Elements) -> Any:
    return ir.Constant(
        ir.IntType(64), context.get_abi_sizeof(context.get_data_type(elements.element))
    )


@lower_getattr(Elements, "itemsize")
def _itemsize(context: Any, builder: Any, elements: Elements, value: Any) -> Any:
    return _item_bytes(context, elements)


@lower_getattr(Elements, "strides")
def _strides(context: Any, builder: Any, elements: Elements, value: Any) -> Any:
    return cgutils.pack_array(builder, [_item_bytes(context, elements)])


def table_reader(table: Table) -> Any:
    """Return the intrinsic that takes an address (int64) for a pointer to such a table."""
    if not COMPILED:
        return partial(PlainTable, table.dtypes)

    @intrinsic
    def at_address(_: Any, address: Any) -> Any:
        """View the table at an address."""

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return builder.inttoptr(args[0], ir.IntType(8).as_pointer())

        return table(types.int64), codegen

    return at_address


@intrinsic
def _call_address(_: Any, address: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """Call the C function `int64(int64, int64, int64, int64)` at an address."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        word = ir.IntType(64)
        pointer = ir.FunctionType(word, [word] * 4).as_pointer()
        return builder.call(builder.inttoptr(args[0], pointer), args[1:])

    return types.int64(*[types.int64] * 5), codegen


call_address: Any = _call_address if COMPILED else call_object


def addresses(arrays: Mapping[str, "np.ndarray[Any, Any]"]) -> "np.ndarray[Any, Any]":
    """Return the table of the arrays' addresses, int64, in the mapping's order; lengths behind."""
    places = [array.ctypes.data for array in arrays.values()]
    return np.array(places + [array.size for array in arrays.values()], np.int64)
