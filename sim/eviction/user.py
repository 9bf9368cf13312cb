"""A user's own policy: a Python class, named `package.module:Class`, that kernels call.

The class is written against `EvictionPolicy` and made once a tier, with the tier's number of slots
as its one argument. Compiled code reaches it through C functions made with ctypes.
"""

import ctypes
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, Protocol, cast

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from vsim.sim.compiled import borrowing_kernel, wide
from vsim.sim.eviction.state import CUSTOM, Callbacks, Evictor, TierPolicy
from vsim.traces.faults import InputError, refuse, suggestion


class EvictionPolicy(Protocol):
    """What a user's class has to offer.

    A page is an integer: the key of its content, the same each time the content returns, or a
    negative number for a page whose content has no key. Only resident pages are ever named. A
    method `release(page)`, called when a page's last user left, may be added.
    """

    def insert(self, page: int) -> None:
        """Take in a page that became resident."""

    def touch(self, page: int) -> None:
        """Note that a resident page was used again."""

    def remove(self, page: int) -> None:
        """Forget a page that left for another reason than eviction."""

    def victim(self, evictable: Callable[[int], bool]) -> int:
        """Return a resident page for which `evictable(page)` holds, and forget it; -1 for none.

        A page without a key is also a negative number, but never -1.
        """


METHODS = ("insert", "touch", "remove", "victim")


def load(name: str, folder: Path | None = None) -> Callable[[int], EvictionPolicy]:
    """Import a user's policy.

    Args:
        name: `package.module:Class`.
        folder: searched first, such as the scenario's.

    Raises:
        InputError: it can't be imported, has no such class, or lacks a method.
    """
    module_name, _, class_name = name.partition(":")
    if not all(part.isidentifier() for part in [*module_name.split("."), class_name]):
        refuse(name, "is not a policy; write it like package.module:Class")
    path = sys.path[:]
    try:
        sys.path[:0] = [str(folder)] if folder is not None else []
        module = importlib.import_module(module_name)
    except Exception as error:  # noqa: BLE001 - a user's module may raise anything
        refuse(name, f"can't be imported: {type(error).__name__}: {error}")
    finally:
        sys.path[:] = path
    found = getattr(module, class_name, None)
    if not inspect.isclass(found):
        classes = [key for key, value in vars(module).items() if inspect.isclass(value)]
        hint = suggestion(class_name, classes) if classes else ""
        refuse(name, f"{module_name} has no class {class_name}{hint}")
    missing = [method for method in METHODS if not callable(getattr(found, method, None))]
    if missing:
        refuse(name, f"{class_name} lacks {', '.join(missing)}; it needs {', '.join(METHODS)}")
    try:
        inspect.signature(found).bind(1)
    except TypeError:
        refuse(name, f"{class_name} can't be made; write __init__(self, capacity: int)")
    return cast(Callable[[int], EvictionPolicy], found)


class Holder:
    """Keeps a user's policy and its C functions alive. Mutable: it records what went wrong.

    A failure stops the policy: it is asked nothing more, and gives no victims. `check` tells.

    Args:
        name: `package.module:Class`, for messages.
        make: the class, as `load` gives it.
        pages: how many the tier holds.
    """

    def __init__(self, name: str, make: Callable[[int], EvictionPolicy], pages: int) -> None:
        self.name = name
        self.pages = pages
        self.error: BaseException | None = None
        self._slot_of: dict[int, int] = {}
        self._page_of: dict[int, int] = {}
        try:
            self._policy = make(pages)
        except Exception as error:  # noqa: BLE001 - a user's class may raise anything
            self._explain(error, "__init__")
        prototype = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 3)
        self._functions = {
            "insert": prototype(self._guard("insert", self._insert)),
            "touch": prototype(self._guard("touch", self._touch)),
            "release": prototype(self._guard("release", self._release)),
            "remove": prototype(self._guard("remove", self._remove)),
            "victim": prototype(self._guard("victim", self._victim)),
        }

    def tier_policy(self, slots: int | None = None) -> TierPolicy:
        """Describe the policy for `make_state`; this object must outlive the state's use."""
        addresses = {
            name: ctypes.cast(function, ctypes.c_void_p).value or 0
            for name, function in self._functions.items()
        }
        return TierPolicy(CUSTOM, self.pages, Callbacks(**addresses), slots)

    def check(self) -> None:
        """Raise an InputError that says what the user's code raised or did wrong, if it did."""
        if self.error is not None:
            raise self.error

    def _guard(
        self, method: str, call: Callable[[int, int, int], int]
    ) -> Callable[[int, int, int], int]:
        """Wrap a call so that nothing is raised into compiled code."""

        def guarded(a: int, b: int, c: int) -> int:
            if self.error is not None:
                return -1
            try:
                return call(a, b, c)
            except InputError as error:
                self.error = error
            except Exception as error:  # noqa: BLE001 - a user's method may raise anything
                try:
                    self._explain(error, method)
                except InputError as explained:
                    self.error = explained
            except BaseException as error:  # noqa: BLE001 - an interrupt passes through `check`
                self.error = error
            return -1

        return guarded

    def _explain(self, error: Exception, method: str) -> NoReturn:
        """Turn what a user's method raised into one line that names file and line."""
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if frame.filename != __file__]
        message = f"raised {type(error).__name__}: {error}".rstrip(": ").replace("\n", " ")
        if own:
            refuse(own[-1].filename, f"{self.name} {message}", line=own[-1].lineno, place=method)
        refuse(self.name, message, place=method)

    def _insert(self, slot: int, key: int, _: int) -> int:
        # Two resident pages may have one content; the second then goes without a key.
        page = key if key >= 0 and key not in self._slot_of else -2 - slot
        self._slot_of[page] = slot
        self._page_of[slot] = page
        self._policy.insert(page)
        return 0

    def _touch(self, slot: int, _: int, __: int) -> int:
        self._policy.touch(self._page_of[slot])
        return 0

    def _release(self, slot: int, _: int, __: int) -> int:
        release = getattr(self._policy, "release", None)
        if release is not None:
            release(self._page_of[slot])
        return 0

    def _remove(self, slot: int, _: int, __: int) -> int:
        page = self._page_of.pop(slot)
        del self._slot_of[page]
        self._policy.remove(page)
        return 0

    def _victim(self, address: int, stride: int, itemsize: int) -> int:
        counter = {1: ctypes.c_int8, 2: ctypes.c_int16, 4: ctypes.c_int32, 8: ctypes.c_int64}[
            itemsize
        ]

        def evictable(page: int) -> bool:
            slot = self._slot_of.get(page)
            return slot is not None and counter.from_address(address + slot * stride).value == 0

        page = self._policy.victim(evictable)
        if page == -1:
            return -1
        if not isinstance(page, int) or page not in self._slot_of:
            refuse(self.name, f"returned {page!r}, which is not a resident page", place="victim")
        if not evictable(page):
            refuse(self.name, f"returned page {page}, which is in use", place="victim")
        slot = self._slot_of.pop(page)
        del self._page_of[slot]
        return slot


def _emit_call(_: Any, address: Any, a: Any, b: Any, c: Any) -> Any:
    """Emit a call of the C function `int64(int64, int64, int64)` at an address."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(64)
        pointer = ir.FunctionType(word, [word] * 3).as_pointer()
        return builder.call(builder.inttoptr(args[0], pointer), args[1:])

    return types.int64(*[types.int64] * 4), emit


call_address: Any = intrinsic(_emit_call)


@borrowing_kernel
def insert(ev: Evictor, tier: int, slot: int, key: int, rank: int) -> None:
    """See `dispatch.on_insert`."""
    ev.key[slot] = key
    call_address(ev.policy[tier]["call_insert"], slot, key, 0)


@borrowing_kernel
def hit(ev: Evictor, tier: int, slot: int) -> None:
    """See `dispatch.on_hit`."""
    call_address(ev.policy[tier]["call_touch"], slot, 0, 0)


@borrowing_kernel
def release(ev: Evictor, tier: int, slot: int) -> None:
    """See `dispatch.on_release`."""
    call_address(ev.policy[tier]["call_release"], slot, 0, 0)


@borrowing_kernel
def remove(ev: Evictor, tier: int, slot: int) -> None:
    """See `dispatch.on_remove`."""
    call_address(ev.policy[tier]["call_remove"], slot, 0, 0)


@borrowing_kernel
def victim(ev: Evictor, tier: int, ref: Any) -> int:
    """See `dispatch.victim`."""
    address = ev.policy[tier]["call_victim"]
    return wide(call_address(address, ref.ctypes.data, ref.strides[0], ref.itemsize))
