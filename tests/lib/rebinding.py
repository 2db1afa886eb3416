"""A name server that changes its mind, and a process whose own resolver asks it: what does lib.egress connect to?

Run as a program, because glibc keeps its resolver's settings for good. Nothing of ours is replaced: names go through
getaddrinfo() of the C library over UDP to the server below. Behind the last socket stands a network of our own, which notes
every address that is called and answers for all public ones; an address of the inside would be answered too.

Prints, for each name, whether its URL was taken when it was saved, and of each call after that: what came of it, which
addresses were called, and how often the server was asked for the name's IPv4 addresses.
"""

import asyncio
import ctypes
import json
import socket
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import ContextVar

from django.conf import settings

PUBLIC, METADATA = "93.184.216.34", "169.254.169.254"
A, CNAME, AAAA = 1, 5, 28
ANSWERS = {  # the first time, the second time, and from then on the last
    "keeps": {A: [[PUBLIC]]},
    "turns": {A: [[PUBLIC], ["127.0.0.1"]]},
    "turns-late": {A: [[PUBLIC], [PUBLIC], [METADATA]]},
    "both": {A: [[PUBLIC, "127.0.0.1"]]},
    "both-late": {A: [[PUBLIC], ["10.0.0.1", PUBLIC]]},
    "mapped": {AAAA: [["::ffff:127.0.0.1"]]},
    "beside-mapped": {A: [[PUBLIC]], AAAA: [["::ffff:169.254.169.254"]]},
    "beside-loopback": {A: [[PUBLIC]], AAAA: [["::1"]]},
    "chain": {A: [["127.0.0.1"]]},
    "chain-late": {A: [[PUBLIC], [METADATA]]},
}
CALLS = 2
PATIENT_S, REFUSED_S = 30, 0.5  # what is refused lasts until its deadline; what is answered ends by itself


class NameServer(threading.Thread):
    """On 127.0.0.1, over UDP. What a name means is valid for no second."""

    def __init__(self):
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.asked = Counter()
        self._given = {}  # a question that comes again, because it took long, is the same question

    def run(self):
        while True:
            question, whence = self.socket.recvfrom(1500)
            key = (whence, question[:2])
            if key not in self._given:
                self._given[key] = self.answer(question)
            self.socket.sendto(self._given[key], whence)

    def answer(self, question):
        name, end = named(question)
        kind = int.from_bytes(question[end : end + 2], "big")
        label = name.removesuffix(".example")
        steps = ANSWERS.get(label, {}).get(kind, [[]])
        addresses = steps[min(self.asked[label, kind], len(steps) - 1)]
        self.asked[label, kind] += 1
        records = []
        if addresses and label.startswith("chain"):
            for hop in (f"one.{name}", f"two.{name}"):
                records.append(record(name, CNAME, wire(hop)))
                name = hop
        family = socket.AF_INET if kind == A else socket.AF_INET6
        records += [record(name, kind, socket.inet_pton(family, address)) for address in addresses]
        head = question[:2] + b"\x81\x80\0\1" + len(records).to_bytes(2, "big") + b"\0\0\0\0"
        return head + question[12 : end + 4] + b"".join(records)


def named(question):
    labels, at = [], 12
    while length := question[at]:
        labels.append(question[at + 1 : at + 1 + length].decode())
        at += 1 + length
    return ".".join(labels), at + 1


def wire(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def record(name, kind, data):
    return wire(name) + kind.to_bytes(2, "big") + b"\0\1" + bytes(4) + len(data).to_bytes(2, "big") + data


class Address(ctypes.Structure):
    _fields_ = (
        ("family", ctypes.c_ushort),
        ("port", ctypes.c_uint16.__ctype_be__),
        ("address", ctypes.c_ubyte * 4),
        ("rest", ctypes.c_ubyte * 8),
    )


class State(ctypes.Structure):
    """The beginning of glibc's `struct __res_state`, which each thread has one of."""

    _fields_ = (
        ("retrans", ctypes.c_int),
        ("retry", ctypes.c_int),
        ("options", ctypes.c_ulong),
        ("nscount", ctypes.c_int),
        ("servers", Address * 3),
    )


libc = ctypes.CDLL(None)


def ask(port):
    """From now on this thread's getaddrinfo() asks the server at that port, and nothing else."""
    libc.__res_init()
    libc.__res_state.restype = ctypes.POINTER(State)
    state = libc.__res_state().contents
    state.nscount, state.servers[0] = 1, Address(socket.AF_INET, port, (127, 0, 0, 1))


called: ContextVar[list[str]] = ContextVar("called")  # the addresses that one call of ours led to


class Network(asyncio.SelectorEventLoop):
    """Every address leads to one server of ours, which is called by none."""

    async def serve(self):
        async def answer(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            writer.close()

        self.there = (await asyncio.start_server(answer, "127.0.0.1", 0)).sockets[0].getsockname()

    async def sock_connect(self, sock, address):
        called.get().append(address[0])
        await super().sock_connect(sock, self.there)


def deadline_s(label, number):
    """By what the server will say to the call of that number, after the look-up when it was saved."""
    steps = ANSWERS[label].get(A, [[]])
    is_good = set(steps[min(number + 1, len(steps) - 1)]) == {PUBLIC} and AAAA not in ANSWERS[label]
    return PATIENT_S if is_good else REFUSED_S


async def call(label, number):
    from lib import egress

    called.set([])
    try:
        url = f"http://{label}.example/"
        came = (await egress.post(url, body=b"{}", headers={}, deadline_s=deadline_s(label, number))).status
    except egress.Unreachable:
        came = "unreachable"
    return came, called.get()


async def main(server, network):
    from lib import egress

    await network.serve()
    names = ThreadPoolExecutor(1, initializer=ask, initargs=(server.port,))
    network.set_default_executor(names)
    told = {}
    for label in ANSWERS:
        try:
            egress.vet_url(f"http://{label}.example/")
            told[label] = ["taken"]
        except egress.Refused:
            told[label] = ["refused"]
    for number in range(CALLS):
        before = server.asked.copy()
        came = await asyncio.gather(*(call(label, number) for label in ANSWERS))
        wait([names.submit(int)])  # whatever is still being looked up
        for label, one in zip(ANSWERS, came, strict=True):
            told[label].append([*one, server.asked[label, A] - before[label, A]])
    return told


if __name__ == "__main__":
    settings.configure(DEBUG=True, USE_I18N=False, EGRESS_ALLOW=[], OPENAI_BASE_URL="", ANTHROPIC_BASE_URL="")
    assert libc.__nss_configure_lookup(b"hosts", b"dns") == 0
    name_server, loop = NameServer(), Network()
    name_server.start()
    ask(name_server.port)
    print(json.dumps(loop.run_until_complete(main(name_server, loop))))
