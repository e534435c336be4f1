#!/usr/bin/python3
"""A PC/SC client that does what it is told, a line at a time: for tests of what happens beside another.

await READER (a card in it), connect shared|exclusive READER, begin, end leave|reset, transmit HEX, disconnect leave|reset
"""

import sys

from smartcard import scard

SHARE = {"shared": scard.SCARD_SHARE_SHARED, "exclusive": scard.SCARD_SHARE_EXCLUSIVE}
END = {"leave": scard.SCARD_LEAVE_CARD, "reset": scard.SCARD_RESET_CARD}


def done(result, *rest):
    if result != scard.SCARD_S_SUCCESS:
        raise RuntimeError(scard.SCardGetErrorMessage(result))
    return rest[0] if rest else None


def main():
    context = done(*scard.SCardEstablishContext(scard.SCARD_SCOPE_SYSTEM))
    card = None
    print("ready", flush=True)
    for line in sys.stdin:
        what, _, rest = line.strip().partition(" ")
        answer = ""
        try:
            if what == "connect":
                how, _, reader = rest.partition(" ")
                protocols = scard.SCARD_PROTOCOL_T0 | scard.SCARD_PROTOCOL_T1
                result, handle, protocol = scard.SCardConnect(context, reader, SHARE[how], protocols)
                done(result)
                card = handle
                control = scard.SCARD_PCI_T0 if protocol == scard.SCARD_PROTOCOL_T0 else scard.SCARD_PCI_T1
            elif what == "await":
                state = scard.SCARD_STATE_UNAWARE
                while not state & scard.SCARD_STATE_PRESENT:
                    result, states = scard.SCardGetStatusChange(context, scard.INFINITE, [(rest, state)])
                    done(result)
                    state = states[0][1]
            elif what == "begin":
                done(scard.SCardBeginTransaction(card))
            elif what == "end":
                done(scard.SCardEndTransaction(card, END[rest]))
            elif what == "transmit":
                data = list(bytes.fromhex(rest))
                answer = bytes(done(*scard.SCardTransmit(card, control, data))).hex()
            elif what == "disconnect":
                done(scard.SCardDisconnect(card, END[rest]))
            else:
                raise RuntimeError(f"unknown request {what}")
            print("ok", answer, flush=True)
        except RuntimeError as error:
            print("error:", error, flush=True)


main()
