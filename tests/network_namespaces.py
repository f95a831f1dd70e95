"""Two machines on one: two network namespaces that see nothing but a cable between them."""

import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def two_namespaces() -> Iterator[tuple[list[list[str]], str, str]]:
    """(what to put before a command that is to run in each, address of the first, name of both network
    interfaces). Skips the test where the machine does not allow them."""
    tag = uuid.uuid4().hex[:6]
    names = [f"cgnet-{tag}-{node}" for node in range(2)]
    cable = f"veth{tag}"

    def ip(*arguments: str) -> None:
        done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no network namespaces here: ip {' '.join(arguments)}: {done.stderr.strip()}")

    try:
        for name in names:
            ip("netns", "add", name)
        ip("-n", names[0], "link", "add", cable, "type", "veth", "peer", "name", cable, "netns", names[1])
        for node, name in enumerate(names):
            ip("-n", name, "addr", "add", f"10.0.0.{node + 1}/24", "dev", cable)
            for device in ("lo", cable):
                ip("-n", name, "link", "set", device, "up")
        yield [["ip", "netns", "exec", name] for name in names], "10.0.0.1", cable
    except FileNotFoundError:
        pytest.skip("no network namespaces here: the command `ip` (iproute2) is missing")
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
