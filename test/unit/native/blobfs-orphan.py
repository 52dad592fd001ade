"""Dies in the middle of beginning a FUSE session: arguments are the holder's socket, the mount point, and where to die.

`put`: the holder has the descriptor, nothing is mounted. `mount`: mounted, the kernel's INIT is still unread.
`init`: INIT was read and not answered.
"""
import ctypes
import os
import socket
import sys

holder, mountpoint, stage = sys.argv[1:]
fuse = os.open("/dev/fuse", os.O_RDWR | os.O_NONBLOCK)
client = socket.socket(socket.AF_UNIX)
client.connect(holder)
socket.send_fds(client, [b"PUT fuse\n"], [fuse])
assert client.recv(100) == b"OK\n"
if stage != "put":
    os.makedirs(mountpoint, exist_ok=True)
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions"
    done = libc.mount(b"lacuna", mountpoint.encode(), b"fuse.lacuna", 1 | 2 | 4, options.encode())
    assert done == 0, os.strerror(ctypes.get_errno())
if stage == "init":
    opcode = int.from_bytes(os.read(fuse, 65536)[4:8], sys.byteorder)
    assert opcode == 26, opcode
os.kill(os.getpid(), 9)
