// Lists an EROFS image with go-erofs, a reader that shares no code with ours nor with the kernel.
//
// usage: go-erofs-walk IMAGE DEVICE...
//
// One JSON object per path, in no particular order; every byte string is in hex:
// {path, type, mode, uid, gid, size, sec, nsec, nlink, ino, major, minor, target, xattrs: {name: value}, sha256}
package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/erofs/go-erofs"
)

type row struct {
	Path   string            `json:"path"`
	Type   string            `json:"type"`
	Mode   uint32            `json:"mode"`
	UID    uint32            `json:"uid"`
	GID    uint32            `json:"gid"`
	Size   int64             `json:"size"`
	Sec    int64             `json:"sec"`
	Nsec   uint32            `json:"nsec"`
	Nlink  int               `json:"nlink"`
	Ino    int64             `json:"ino"`
	Major  uint32            `json:"major"`
	Minor  uint32            `json:"minor"`
	Target string            `json:"target"`
	Xattrs map[string]string `json:"xattrs"`
	Sha256 string            `json:"sha256"`
}

var types = map[fs.FileMode]string{
	0:                                 "reg",
	fs.ModeDir:                        "dir",
	fs.ModeSymlink:                    "symlink",
	fs.ModeDevice:                     "block",
	fs.ModeDevice | fs.ModeCharDevice: "char",
	fs.ModeNamedPipe:                  "fifo",
	fs.ModeSocket:                     "socket",
}

func hexOf(text string) string { return hex.EncodeToString([]byte(text)) }

// permissions turns Go's mode bits into those of stat(2).
func permissions(mode fs.FileMode) uint32 {
	bits := uint32(mode.Perm())
	for flag, bit := range map[fs.FileMode]uint32{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if mode&flag != 0 {
			bits |= bit
		}
	}
	return bits
}

func rowOf(image fs.FS, path string) (row, error) {
	info, err := image.(fs.ReadLinkFS).Lstat(path)
	if err != nil {
		return row{}, err
	}
	stat := info.Sys().(*erofs.Stat)
	found := row{
		Path: hexOf(path), Type: types[stat.Mode.Type()], Mode: permissions(stat.Mode), UID: stat.UID, GID: stat.GID,
		Size: stat.Size, Sec: int64(stat.Mtime), Nsec: stat.MtimeNs, Nlink: stat.Nlink, Ino: stat.Ino,
		// The kernel's new_decode_dev.
		Major: stat.Rdev >> 8 & 0xfff, Minor: stat.Rdev&0xff | stat.Rdev>>12&0xfff00,
		Xattrs: map[string]string{},
	}
	for name, value := range stat.Xattrs {
		found.Xattrs[hexOf(name)] = hexOf(value)
	}
	switch found.Type {
	case "symlink":
		target, err := image.(fs.ReadLinkFS).ReadLink(path)
		if err != nil {
			return row{}, err
		}
		found.Target = hexOf(target)
	case "reg":
		file, err := image.Open(path)
		if err != nil {
			return row{}, err
		}
		defer file.Close()
		hash := sha256.New()
		if _, err := io.Copy(hash, file); err != nil {
			return row{}, err
		}
		found.Sha256 = hex.EncodeToString(hash.Sum(nil))
	}
	return found, nil
}

func run(paths []string) error {
	files := make([]io.ReaderAt, len(paths))
	for i, path := range paths {
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		files[i] = file
	}
	image, err := erofs.Open(files[0], erofs.WithExtraDevices(files[1:]...))
	if err != nil {
		return err
	}
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	encoder := json.NewEncoder(out)
	return fs.WalkDir(image, "/", func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("%q: %w", path, err)
		}
		found, err := rowOf(image, path)
		if err != nil {
			return fmt.Errorf("%q: %w", path, err)
		}
		return encoder.Encode(found)
	})
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: go-erofs-walk IMAGE DEVICE...")
		os.Exit(2)
	}
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "go-erofs-walk:", err)
		os.Exit(1)
	}
}
