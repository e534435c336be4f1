#!/usr/bin/python3
"""What a profile must yield, computed from the private keys of its cards.

It shares no code with src: arithmetic on P-256, hashing to the curve (RFC 9380), HKDF and Shamir are
written out here; only AES-GCM, the curves of RFC 7748 and RFC 8032 and PKCS#8 come from Debian's
python3-cryptography. Slow and not constant time: for tests only.
"""

import argparse
import base64
import hashlib
import hmac
import json
import pathlib
import string
import struct
import sys
import textwrap
import tomllib

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, derive_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import (
    Encoding, NoEncryption, PrivateFormat, PublicFormat)


class Refused(Exception):
    """The profile, or what came with it, is not good enough."""


# --- P-256: points are (x, y), or None for the point at infinity ---

P = 2**256 - 2**224 + 2**192 + 2**96 - 1
A = P - 3
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)


def on_curve(x, y):
    return x < P and y < P and (y * y - (x * x * x + A * x + B)) % P == 0


def add(p, q):
    if p is None or q is None:
        return p or q
    if p[0] == q[0]:
        if (p[1] + q[1]) % P == 0:
            return None
        slope = (3 * p[0] * p[0] + A) * pow(2 * p[1], -1, P)
    else:
        slope = (q[1] - p[1]) * pow(q[0] - p[0], -1, P)
    x = (slope * slope - p[0] - q[0]) % P
    return x, (slope * (p[0] - x) - p[1]) % P


def multiply(scalar, point):
    result = None
    while scalar:
        if scalar & 1:
            result = add(result, point)
        point = add(point, point)
        scalar >>= 1
    return result


def encode(point):
    return b"\x04" + point[0].to_bytes(32) + point[1].to_bytes(32)


def decode(data):
    x, y = int.from_bytes(data[1:33]), int.from_bytes(data[33:])
    if len(data) != 65 or data[0] != 4 or not on_curve(x, y):
        raise Refused("not a point of P-256")
    return x, y


# --- RFC 9380, suite P256_XMD:SHA-256_SSWU_RO_ ---

DST = b"nixos-cryptkey-V01-with-P256_XMD:SHA-256_SSWU_RO_"
Z = P - 10


def expand_message_xmd(message, dst, length):
    dst += bytes([len(dst)])
    start = hashlib.sha256(bytes(64) + message + length.to_bytes(2) + b"\0" + dst).digest()
    block, output = bytes(32), b""
    for number in range(1, -(-length // 32) + 1):
        mixed = bytes(a ^ b for a, b in zip(start, block))
        block = hashlib.sha256(mixed + bytes([number]) + dst).digest()
        output += block
    return output[:length]


def square_root(square):
    """A root, or None; P is 3 modulo 4."""
    root = pow(square, (P + 1) // 4, P)
    return root if root * root % P == square % P else None


def map_to_curve(u):
    """The simplified SWU method."""
    factor = (Z * Z * pow(u, 4, P) + Z * u * u) % P
    if factor:
        x = -B * pow(A, -1, P) * (1 + pow(factor, -1, P)) % P
    else:
        x = B * pow(Z * A, -1, P) % P
    y = square_root(x**3 + A * x + B)
    if y is None:
        x = Z * u * u * x % P
        y = square_root(x**3 + A * x + B)
    return x, (y if y % 2 == u % 2 else P - y)


def hash_to_curve(message):
    uniform = expand_message_xmd(message, DST, 96)
    u = [int.from_bytes(uniform[i : i + 48]) % P for i in (0, 48)]
    return add(map_to_curve(u[0]), map_to_curve(u[1]))  # the cofactor is 1


# --- the key schedule ---


def hkdf(key, salt, info, length):
    prk = hmac.digest(salt, key, "sha256")
    block = output = b""
    for number in range(1, -(-length // 32) + 1):
        block = hmac.digest(prk, block + info + bytes([number]), "sha256")
        output += block
    return output[:length]


def piv_point(scheme, salt):
    """The point that goes to the card."""
    if scheme == "hash-to-curve":
        return hash_to_curve(salt)
    if scheme == "salt-derived":
        wide = hkdf(salt, b"", b"cryptkey-piv-ecdh-scalar", 64)
        return multiply(int.from_bytes(wide) % (N - 1) + 1, G)
    raise Refused(f"unknown scheme {scheme!r}")


def piv_secret(scheme, salt, public_key, shared_x):
    """What the card's answer is made into."""
    info = b"cryptkey-piv-provider"
    if scheme == "hash-to-curve":
        info = b"cryptkey-piv-hash-to-curve" + encode(hash_to_curve(salt)) + public_key
    return hkdf(shared_x, salt, info, 32)


def open_share(provider, private_key):
    params = provider["params"]
    salt = bytes.fromhex(params["salt"])
    scheme = params.get("scheme", "salt-derived")
    shared_x = multiply(private_key, piv_point(scheme, salt))[0].to_bytes(32)
    secret = piv_secret(scheme, salt, bytes.fromhex(params["public_key"]), shared_x)
    key = hkdf(secret, bytes.fromhex(provider["share_salt"]), b"cryptkey-share-encryption", 32)
    nonce, sealed = bytes.fromhex(provider["nonce"]), bytes.fromhex(provider["encrypted_share"])
    bound = f"{provider['type']}:{provider['id']}".encode()
    try:
        share = AESGCM(key).decrypt(nonce, sealed, bound)
    except InvalidTag:
        raise Refused(f"the share of {provider['id']} does not open") from None
    index = params.get("share_index")
    if len(share) != 33 or share[0] == 0 or index not in (None, str(share[0])):
        raise Refused(f"the share of {provider['id']} is not what it says")
    return share


def gf_multiply(a, b):
    product = 0
    while b:
        if b & 1:
            product ^= a
        a = a << 1 ^ (0x11B if a & 0x80 else 0)
        b >>= 1
    return product


def gf_invert(a):
    return next(b for b in range(1, 256) if gf_multiply(a, b) == 1)


def combine(shares):
    """Lagrange's interpolation at 0."""
    secret = bytearray(32)
    for i, share in enumerate(shares):
        weight = 1
        for j, other in enumerate(shares):
            if i != j:
                weight = gf_multiply(weight, gf_multiply(other[0], gf_invert(other[0] ^ share[0])))
        for position, byte in enumerate(share[1:]):
            secret[position] ^= gf_multiply(byte, weight)
    return bytes(secret)


def bech32(prefix, data):
    """Bech32 as BIP 173 has it; age's form of a recipient."""
    letters = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
    bits = "".join(f"{byte:08b}" for byte in data)
    groups = [int(bits[at : at + 5].ljust(5, "0"), 2) for at in range(0, len(bits), 5)]
    checked = [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix] + groups + [0] * 6
    state = 1
    for value in checked:
        top = state >> 25
        state = (state & 0x1FFFFFF) << 5 ^ value
        generators = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
        for bit, generator in enumerate(generators):
            state ^= generator if top >> bit & 1 else 0
    state ^= 1
    checksum = [state >> 5 * (5 - at) & 31 for at in range(6)]
    return prefix + "1" + "".join(letters[group] for group in groups + checksum)


def recipient(profile, master):
    """The key's age recipient and its id."""
    salt = bytes.fromhex(profile["output_salt"])
    scalar = X25519PrivateKey.from_private_bytes(hkdf(master, salt, b"cryptkey-age-recipient", 32))
    public = scalar.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return bech32("age", public), hkdf(public, b"", b"cryptkey-recipient-id", 16).hex()


def integrity(profile, master):
    known = ("version", "name", "threshold", "output_salt")
    lines = [f"{field}={profile[field]}" for field in known]
    others = sorted(set(profile) - {*known, "integrity", "providers"}, key=str.encode)
    lines += [f"field:{field}={profile[field]}" for field in others]
    for provider in profile["providers"]:
        fields = ("type", "id", "encrypted_share", "nonce", "share_salt")
        lines += [f"{field}={provider[field]}" for field in fields]
        params = provider.get("params", {}).items()
        lines += [f"param:{key}={value}" for key, value in sorted(params, key=lambda p: p[0].encode())]
    digest = hashlib.sha256("".join(line + "\n" for line in lines).encode()).digest()
    key = hkdf(master, b"", b"cryptkey-config-integrity", 32)
    return hmac.new(key, digest, "sha256").hexdigest()


def open_profile(profile, private_keys):
    """The master key."""
    if profile["version"] not in (1, 2):
        raise Refused(f"unknown version {profile['version']}")
    threshold = profile["threshold"]
    if threshold < 3 - profile["version"]:
        raise Refused(f"threshold {threshold} is too low")
    keys = {multiply(key, G)[0]: key for key in private_keys}
    shares = {}
    for provider in profile["providers"]:
        if provider["type"] != "piv":
            continue
        if profile["version"] == 2 and provider["params"].get("scheme") != "hash-to-curve":
            raise Refused(f"{provider['id']}: version 2 allows no such scheme")
        key = keys.get(decode(bytes.fromhex(provider["params"]["public_key"]))[0])
        if key and len(shares) < threshold:
            share = open_share(provider, key)
            shares[share[0]] = share
    if len(shares) < threshold:
        raise Refused(f"the private keys open {len(shares)} of {threshold} shares")
    master = combine(list(shares.values()))
    if not hmac.compare_digest(integrity(profile, master), profile["integrity"]):
        raise Refused("the integrity of the profile does not hold")
    if profile.get("recipient", recipient(profile, master)[0]) != recipient(profile, master)[0]:
        raise Refused("the profile names the recipient of another key")
    return master


def clamp(scalar):
    return bytes([scalar[0] & 248]) + scalar[1:31] + bytes([scalar[31] & 127 | 64])


def pkcs8(key):
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def openssh(seed):
    """OpenSSH's PROTOCOL.key, with the check integers that make it the same each time."""
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key()
    public = public.public_bytes(Encoding.Raw, PublicFormat.Raw)

    def text(data):
        return struct.pack(">I", len(data)) + data

    blob = text(b"ssh-ed25519") + text(public)
    covered = hashlib.sha256(public).digest()[:4] * 2 + blob + text(seed + public) + text(b"")
    covered += bytes(range(1, -len(covered) % 8 + 1))
    whole = b"openssh-key-v1\0" + text(b"none") * 2 + text(b"") + struct.pack(">I", 1)
    lines = textwrap.wrap(base64.b64encode(whole + text(blob) + text(covered)).decode(), 70)
    marks = [f"-----{word} OPENSSH PRIVATE KEY-----" for word in ("BEGIN", "END")]
    return "".join(line + "\n" for line in [marks[0], *lines, marks[1]]).encode()


CLASSES = {"upper": string.ascii_uppercase, "lower": string.ascii_lowercase, "digit": string.digits}
LETTERS_AND_DIGITS = "".join(CLASSES.values())


def password(stream, length, alphabet, classes):
    """The first text of the stream with a character of each class."""
    size = len(alphabet)
    drawn = "".join(alphabet[byte % size] for byte in stream if byte < 256 // size * size)
    for at in range(0, len(drawn) - length + 1, length):
        found = {next((name for name, of in CLASSES.items() if c in of), "symbol")
                 for c in drawn[at : at + length]}
        if found >= set(classes):
            return drawn[at : at + length].encode()
    raise Refused("there is no such password")


def output(profile, master, use, length=32, form="raw", newline=False, algorithm="ed25519",
           alphabet=LETTERS_AND_DIGITS, classes=()):
    def of(length):
        salt = bytes.fromhex(profile["output_salt"])
        return hkdf(master, salt, b"cryptkey:" + use.encode(), length)

    pem = {
        "ed25519": lambda: Ed25519PrivateKey.from_private_bytes(of(32)),
        "x25519": lambda: X25519PrivateKey.from_private_bytes(clamp(of(32))),
        "p256": lambda: derive_private_key(int.from_bytes(of(64)) % (N - 1) + 1, SECP256R1()),
    }
    forms = {
        "raw": lambda: of(length),
        "hex": lambda: of(length).hex().encode(),
        "base64": lambda: base64.b64encode(of(length)),
        "age": lambda: bech32("age-secret-key-", clamp(of(32))).upper().encode(),
        "wireguard": lambda: base64.b64encode(clamp(of(32))),
        "ed25519": lambda: openssh(of(32)),
        "pem": lambda: pkcs8(pem[algorithm]()),
        "password": lambda: password(of(8160), length, alphabet, classes),
    }
    data = forms[form]()
    return data if data.endswith(b"\n") and form in ("ed25519", "pem") else data + b"\n" * newline


def everything(profile, private_keys, uses):
    """Every secret on the way from the cards to the outputs, as hex."""
    master = open_profile(profile, private_keys)
    providers = []
    keys = {multiply(key, G)[0]: key for key in private_keys}
    for provider in profile["providers"]:
        if provider["type"] != "piv":
            continue
        params = provider["params"]
        private_key = keys.get(decode(bytes.fromhex(params["public_key"]))[0])
        if private_key is None:
            continue
        scheme, salt = params.get("scheme", "salt-derived"), bytes.fromhex(params["salt"])
        shared_x = multiply(private_key, piv_point(scheme, salt))[0].to_bytes(32)
        secret = piv_secret(scheme, salt, bytes.fromhex(params["public_key"]), shared_x)
        share_salt = bytes.fromhex(provider["share_salt"])
        providers.append({
            "shared_x": shared_x.hex(),
            # As arithmetic keeps it: Montgomery's form modulo P.
            "shared_x_montgomery": (int.from_bytes(shared_x) * 2**256 % P).to_bytes(32).hex(),
            "secret": secret.hex(),
            "share_key": hkdf(secret, share_salt, b"cryptkey-share-encryption", 32).hex(),
            "share": open_share(provider, private_key)[1:].hex(),
            # The keys of HKDF's second half.
            "prk_of_secret": hmac.digest(salt, shared_x, "sha256").hex(),
            "prk_of_share_key": hmac.digest(share_salt, secret, "sha256").hex(),
        })
    return {
        "master": master.hex(),
        "integrity_key": hkdf(master, b"", b"cryptkey-config-integrity", 32).hex(),
        "prk_of_integrity_key": hmac.digest(b"", master, "sha256").hex(),
        "prk_of_outputs": hmac.digest(bytes.fromhex(profile["output_salt"]), master, "sha256").hex(),
        "providers": providers,
        "outputs": {use: output(profile, master, use).hex() for use in uses},
    }


# --- the self-test ---


def check(condition, what):
    if not condition:
        raise Refused(f"self-test: {what}")


def check_refused(what, *arguments):
    try:
        open_profile(*arguments)
    except Refused:
        return
    raise Refused(f"self-test: {what} was not refused")


def check_vector(vector):
    salt, public = bytes.fromhex(vector["salt"]), bytes.fromhex(vector["slot_public"])
    point = piv_point(vector["scheme"], salt)
    check(encode(point).hex() == vector["peer_public"], "the peer point")
    private_key = int(vector["slot_private"], 16)
    check(encode(multiply(private_key, G)) == public, "the public key")
    shared_x = multiply(private_key, point)[0].to_bytes(32)
    check(shared_x.hex() == vector["shared_x"], "the shared x")
    secret = piv_secret(vector["scheme"], salt, public, shared_x)
    check(secret.hex() == vector["secret"], "the provider's secret")


def check_profile(file):
    """Whether the profile opened: some need a recovery code."""
    profile = tomllib.loads(file.read_text())
    known = json.loads(file.with_suffix(".json").read_text())
    keys = [int(card["private_key"], 16) for card in known["cards"]]
    check_refused(f"{file.name} with a strange key", profile, [5] * len(keys))
    check_refused(f"{file.name} without a key", profile, [])
    if len(keys) < profile["threshold"]:
        check_refused(f"{file.name} with too few keys", profile, keys)
        return False
    master = open_profile(profile, keys)
    for use, expected in known["outputs"].items():
        check(output(profile, master, use).hex() == expected, f"{file.name}: {use}")
    check_refused(f"{file.name} with a new name", profile | {"name": "other"}, keys)
    return True


def self_test(directory):
    vectors = (directory / "piv.jsonl").read_text().splitlines()
    for vector in vectors:
        check_vector(json.loads(vector))
    files = sorted((directory / "profiles").glob("*.toml"))
    opened = [check_profile(file) for file in files]
    check(vectors and any(opened), "nothing to test with")
    print(f"{len(vectors)} vectors hold; {sum(opened)} of {len(files)} profiles open, "
          "the others need more than their cards")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", type=pathlib.Path, metavar="FILE.toml")
    parser.add_argument("--private-key", action="append", default=[], metavar="HEX",
                        help="of a card; repeat it up to the threshold")
    parser.add_argument("--use", action="append", default=[], metavar="LABEL")
    parser.add_argument("--length", type=int, default=32)
    parser.add_argument("--format", default="raw",
                        choices="raw hex base64 age ed25519 wireguard pem password".split())
    parser.add_argument("--algorithm", default="ed25519", help="of a key in PEM")
    parser.add_argument("--alphabet", default=LETTERS_AND_DIGITS, help="of a password")
    parser.add_argument("--class", dest="classes", action="append", default=[],
                        help="of a password")
    parser.add_argument("--newline", action="store_true")
    parser.add_argument("--everything", action="store_true",
                        help="print all secrets on the way, and the outputs of 32 bytes, as JSON")
    parser.add_argument("--self-test", type=pathlib.Path, metavar="DIR",
                        help="hold this program against vectors")
    arguments = parser.parse_args()
    if arguments.self_test:
        return self_test(arguments.self_test)
    if not arguments.profile or not arguments.use:
        parser.error("--profile and --use, or --self-test")
    profile = tomllib.loads(arguments.profile.read_text())
    keys = [int(key, 16) for key in arguments.private_key]
    if arguments.everything:
        return print(json.dumps(everything(profile, keys, arguments.use), indent=1))
    if len(arguments.use) > 1:
        parser.error("several --use only with --everything")
    sys.stdout.buffer.write(output(profile, open_profile(profile, keys), arguments.use[0],
                                   arguments.length, arguments.format, arguments.newline,
                                   arguments.algorithm, arguments.alphabet, arguments.classes))


if __name__ == "__main__":
    try:
        main()
    except (Refused, OSError, KeyError, ValueError) as error:
        sys.exit(f"expected.py: {type(error).__name__}: {error}")
