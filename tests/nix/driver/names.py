# The names that the test driver of NixOS gives to a script, with their types; the machine's comes
# after them.

from typing import Any, Callable, ContextManager, Protocol

from test_driver.machine import QemuMachine


class Retry(Protocol):
    def __call__(self, fn: Callable[[bool], bool], timeout: float = 900, /) -> None: ...


start_all: Callable[[], None]
join_all: Callable[[], None]
subtest: Callable[[str], ContextManager[None]]
retry: Retry
log: Any
driver: Any
t: Any
