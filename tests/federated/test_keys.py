"""Keys of a hospital: secret where they must be, pinned by a fingerprint that can be read out."""

import json
import os
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dpsynth.cli.app import app
from dpsynth.errors import FileError, InputError
from dpsynth.federated.keys import PrivateKeys, PublicKeys, one_process, same_fingerprint, spoken
from dpsynth.federated.messages import fingerprint

KEYS = PrivateKeys.make()
OTHER = PrivateKeys.make()


def test_keys_come_back(tmp_path: Path) -> None:
    """Keys that were saved are the same when they are loaded."""
    KEYS.save(tmp_path / "a.key")
    again = PrivateKeys.load(tmp_path / "a.key")
    assert again.public == KEYS.public
    assert again.masking.private_bytes_raw() == KEYS.masking.private_bytes_raw()


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    """The file is made with mode 600 whatever the umask, and one that others can read is refused."""
    path = tmp_path / "a.key"
    before = os.umask(0)
    try:
        KEYS.save(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for mode in (0o640, 0o604, 0o660):
        path.chmod(mode)
        with pytest.raises(InputError, match=f"mode {mode:03o}, expected 600"):
            PrivateKeys.load(path)


def test_keys_are_never_overwritten(tmp_path: Path) -> None:
    """A file that is there stays as it is."""
    (tmp_path / "a.key").write_text("of another study")
    with pytest.raises(FileError, match="never overwritten"):
        KEYS.save(tmp_path / "a.key")
    assert (tmp_path / "a.key").read_text() == "of another study"
    assert [path.name for path in tmp_path.iterdir()] == ["a.key"]


def test_secrets_are_not_shown() -> None:
    """Neither words nor pickles hold a secret."""
    import pickle

    assert repr(KEYS) == str(KEYS) == "PrivateKeys(...)"
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(KEYS)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    """A file that is cut anywhere, empty, binary, too large or of something else is refused by name."""
    path = tmp_path / "a.key"
    KEYS.save(path)
    whole = path.read_bytes()
    cuts = [whole[:n] for n in range(0, len(whole) - 2, 61)]
    for damaged in (*cuts, b"\xff" * 40, b"a" * 70_000, whole.replace(b"PRIVATE", b"PUBLIC"), whole[::-1]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"^a\.key: "):
            PrivateKeys.load(path)
    with pytest.raises(InputError, match="cannot be read"):
        PrivateKeys.load(tmp_path / "none.key")


def test_keys_in_another_order_are_refused(tmp_path: Path) -> None:
    """Each key stands in its own place: an Ed25519 key is not taken for an X25519 one."""
    path = tmp_path / "a.key"
    KEYS.save(path)
    title, *blocks = path.read_text().split("-----BEGIN")
    path.write_text("-----BEGIN".join([title, blocks[1], blocks[0], blocks[2]]))
    with pytest.raises(InputError, match="is not a file of"):
        PrivateKeys.load(path)


def test_public_keys_are_believed_by_their_fingerprint() -> None:
    """Public keys come over any way; those of another fingerprint are refused with both fingerprints."""
    public = KEYS.public
    assert PublicKeys.from_bytes(public.to_bytes(), public.fingerprint, "north") == public
    with pytest.raises(InputError, match="north") as refused:
        PublicKeys.from_bytes(OTHER.public.to_bytes(), public.fingerprint, "north")
    assert public.fingerprint in str(refused.value)
    assert OTHER.public.fingerprint in str(refused.value)


def test_every_byte_of_public_keys_is_pinned() -> None:
    """Whatever byte is changed on the way, signing key, masking key, signature or certificate, it is refused."""
    raw = KEYS.public.to_bytes()
    for place in [*range(0, 130, 7), *range(128, len(raw), 23), len(raw) - 1]:
        changed = raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
        with pytest.raises(InputError):
            PublicKeys.from_bytes(changed, KEYS.public.fingerprint, "north")
    for cut in (b"", raw[:64], raw[:128], raw + bytes(5000)):
        with pytest.raises(InputError):
            PublicKeys.from_bytes(cut, KEYS.public.fingerprint, "north")


def test_another_certificate_is_not_endorsed() -> None:
    """The pinned keys with a certificate of somebody else, or that one's endorsement, are refused."""
    mine, other = KEYS.public, OTHER.public
    for endorsement in (mine.endorsement, other.endorsement):
        mixed = PublicKeys(mine.signing, mine.masking, other.certificate, endorsement)
        with pytest.raises(InputError, match="certificate of north"):
            PublicKeys.from_bytes(mixed.to_bytes(), mine.fingerprint, "north")


def test_fingerprints_are_read_out() -> None:
    """Each of forty digits is a word that is not mistaken, and spaces and capitals do not count in comparing."""
    words = spoken("0123 4567 89ab cdef")
    assert words[2:] == ["eight nine alfa bravo", "charlie delta echo foxtrot"]
    print_of = KEYS.public.fingerprint
    assert print_of == fingerprint(KEYS.public.signing + KEYS.public.masking)
    assert len(" ".join(spoken(print_of)).split()) == 40
    assert same_fingerprint(print_of.upper().replace(" ", ""), print_of)
    assert not same_fingerprint(print_of[:-1], print_of)


def test_one_process_uses_a_key(tmp_path: Path) -> None:
    """A second process with the same file is refused until the first has ended."""
    path = tmp_path / "a.key"
    KEYS.save(path)
    with one_process(path), pytest.raises(InputError, match="another process on this computer"), one_process(path):
        pass
    with one_process(path):
        pass


def test_the_command_makes_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`dpsynth federate key` writes a file of mode 600, prints the fingerprint and its words, and shows it again."""
    monkeypatch.chdir(tmp_path)
    made = CliRunner().invoke(app, ["federate", "key"])
    assert made.exit_code == 0, made.output
    public = PrivateKeys.load("hospital.key").public
    assert f"fingerprint: {public.fingerprint}" in made.output
    assert all(words in made.output for words in spoken(public.fingerprint))
    shown = CliRunner().invoke(app, ["federate", "key", "--show", "hospital.key", "--json"])
    assert json.loads(shown.stdout) == {"key": "hospital.key", "fingerprint": public.fingerprint}
    again = CliRunner().invoke(app, ["federate", "key"])
    assert again.exit_code == 2
    assert "never overwritten" in again.output
    for line in Path("hospital.key").read_text().splitlines()[2:3]:
        assert line not in made.output
