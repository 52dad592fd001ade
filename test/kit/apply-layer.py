#!/usr/bin/env python3
"""Puts one layer into a directory of its own, ready for overlayfs, as containerd's differ does: whiteouts become devices
0:0, opaque directories get trusted.overlay.opaque. Reads the steps of random-layers.ts from standard input.

usage: apply-layer.py DIRECTORY
"""
import json
import os
import stat
import sys


def make(path, step):
    kind = step["kind"]
    if kind == "dir":
        if not os.path.isdir(path):
            os.mkdir(path)
    elif kind == "file":
        with open(path, "w", encoding="ascii") as file:
            file.write(step["data"])
    elif kind == "symlink":
        os.symlink(step["target"], path)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "char":
        os.mknod(path, stat.S_IFCHR, os.makedev(1, 3))
    elif kind == "whiteout":
        os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))
    elif kind == "opaque":
        os.setxattr(path, "trusted.overlay.opaque", b"y")


def describe(path, step):
    if step["kind"] in ("whiteout", "opaque", "link"):
        return
    os.lchown(path, step["uid"], step["uid"])
    if step["xattr"] and step["kind"] in ("dir", "file"):
        os.setxattr(path, "user.x", b"x" * step["xattr"])
    if step["kind"] != "symlink":
        os.chmod(path, step["mode"])
    os.utime(path, (step["sec"], step["sec"]), follow_symlinks=False)


def main():
    root = sys.argv[1]
    steps = json.load(sys.stdin)
    for step in steps:
        path = os.path.join(root, step["path"])
        if step["kind"] == "link":
            os.link(os.path.join(root, step["target"]), path)
        else:
            make(path, step)
    # Directories last and from below: making something in one changes its time.
    for step in sorted(steps, key=lambda step: step["path"], reverse=True):
        describe(os.path.join(root, step["path"]), step)


if __name__ == "__main__":
    main()
