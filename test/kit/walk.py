#!/usr/bin/env python3
"""Prints one JSON row per path below a directory, sorted bytewise, the root first as "/".

The independent witness of the tests: it knows a tree only through lstat, readlink, listxattr, getxattr and read, and
shares no code with src/. Rows have the fields of the project's tree listing:

  path | path_b64, type, mode, uid, gid, size (reg), mtime {sec, nsec}, nlink, rdev {major, minor} (char, block),
  target | target_b64 (symlink), xattrs {name: hex}, sha256 (reg), link_group (where two or more names here share an inode)

usage: walk.py [--no-digest] [--xdev] [--skip-missing] DIRECTORY
"""
import argparse
import base64
import hashlib
import json
import os
import stat
import sys

TYPES = {
    stat.S_IFREG: "reg",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}
NANO = 1_000_000_000
BLOCK = 1 << 20


def named(field, value):
    """`field` as text, or as base64 under `field`_b64 when the bytes are not UTF-8."""
    try:
        return {field: value.decode("utf-8")}
    except UnicodeDecodeError:
        return {field + "_b64": base64.b64encode(value).decode()}


def digest(path):
    sha = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while block := file.read(BLOCK):
            sha.update(block)
    return sha.hexdigest()


def xattrs_of(path):
    found = {}
    for name in sorted(os.listxattr(path, follow_symlinks=False)):
        found[name] = os.getxattr(path, name, follow_symlinks=False).hex()
    return found


def paths_below(root, device, skip_missing):
    """Every path below `root` as (absolute path inside it, real path, lstat)."""
    stack = [(b"/", root)]
    while stack:
        inside, real = stack.pop()
        try:
            found = os.lstat(real)
        except FileNotFoundError:
            if skip_missing:
                continue
            raise
        yield inside, real, found
        if not stat.S_ISDIR(found.st_mode) or (device is not None and found.st_dev != device):
            continue
        for name in os.listdir(real):
            stack.append((inside.rstrip(b"/") + b"/" + name, real.rstrip(b"/") + b"/" + name))


def row_of(inside, real, found, with_digest):
    kind = TYPES[stat.S_IFMT(found.st_mode)]
    row = named("path", inside)
    row.update(type=kind, mode="%04o" % stat.S_IMODE(found.st_mode), uid=found.st_uid, gid=found.st_gid)
    if kind == "reg":
        row["size"] = found.st_size
    row["mtime"] = {"sec": found.st_mtime_ns // NANO, "nsec": found.st_mtime_ns % NANO}
    row["nlink"] = found.st_nlink
    if kind in ("char", "block"):
        row["rdev"] = {"major": os.major(found.st_rdev), "minor": os.minor(found.st_rdev)}
    if kind == "symlink":
        row.update(named("target", os.readlink(real)))
    row["xattrs"] = xattrs_of(real)
    if kind == "reg" and with_digest:
        row["sha256"] = digest(real)
    return row


def main():
    options = argparse.ArgumentParser(description="List a tree, one JSON row per path.")
    options.add_argument("--no-digest", action="store_true", help="do not read file contents")
    options.add_argument("--xdev", action="store_true", help="do not descend into other file systems")
    options.add_argument("--skip-missing", action="store_true", help="pass over names that are listed but not there")
    options.add_argument("directory")
    arguments = options.parse_args()
    root = os.fsencode(arguments.directory)
    device = os.lstat(root).st_dev if arguments.xdev else None

    entries = sorted(paths_below(root, device, arguments.skip_missing), key=lambda entry: entry[0])
    names = {}
    for inside, _, found in entries:
        if not stat.S_ISDIR(found.st_mode):
            names.setdefault((found.st_dev, found.st_ino), []).append(inside)
    groups = {}
    for inode, paths in names.items():
        if len(paths) > 1:
            groups[inode] = len(groups) + 1

    for inside, real, found in entries:
        row = row_of(inside, real, found, not arguments.no_digest)
        group = groups.get((found.st_dev, found.st_ino))
        if group is not None:
            row["link_group"] = group
        sys.stdout.write(json.dumps(row, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
