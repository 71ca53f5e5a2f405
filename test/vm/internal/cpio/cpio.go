// Package cpio writes archives in the "newc" format that Linux unpacks as its
// initial ramdisk (Documentation/driver-api/early-userspace/buffer-format.rst).
package cpio

import (
	"fmt"
	"io"
	"strings"
)

// File types of st_mode.
const (
	TypeDir     = 0o040000
	TypeRegular = 0o100000
	TypeSymlink = 0o120000
	TypeChar    = 0o020000
)

// Header describes one entry; everything belongs to root.
type Header struct {
	// Name is a path without a leading slash.
	Name string
	// Mode is type and permissions.
	Mode uint32
	// Size of the content that follows, or of a link's target.
	Size int64
	// Major and Minor number of a device.
	Major, Minor uint32
}

// Writer writes one archive.
type Writer struct {
	w       io.Writer
	inode   uint32
	left    int64 // content of the current entry still to come
	padding int
}

// NewWriter returns a writer of an archive to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// WriteHeader begins an entry. The content of the one before must be complete.
func (w *Writer) WriteHeader(h Header) error {
	if w.left != 0 {
		return fmt.Errorf("cpio entry %q: %d bytes of the entry before are missing", h.Name, w.left)
	}
	if h.Name == "" || strings.HasPrefix(h.Name, "/") || strings.ContainsRune(h.Name, 0) {
		return fmt.Errorf("cpio entry %q: not a relative path", h.Name)
	}
	if h.Size < 0 || h.Size > 1<<32-1 {
		return fmt.Errorf("cpio entry %q: size %d does not fit the format", h.Name, h.Size)
	}
	w.inode++
	return w.header(h)
}

func (w *Writer) header(h Header) error {
	// The fields after the magic: ino mode uid gid nlink mtime filesize devmajor
	// devminor rdevmajor rdevminor namesize check.
	head := fmt.Sprintf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		w.inode, h.Mode, 0, 0, 1, 0, h.Size, 0, 0, h.Major, h.Minor, len(h.Name)+1, 0, h.Name)
	head += strings.Repeat("\x00", pad(int64(len(head))))
	if _, err := io.WriteString(w.w, head); err != nil {
		return err
	}
	w.left, w.padding = h.Size, pad(h.Size)
	return w.finish()
}

// Write adds content to the current entry.
func (w *Writer) Write(p []byte) (int, error) {
	if int64(len(p)) > w.left {
		return 0, fmt.Errorf("cpio: %d bytes more than the header announced", int64(len(p))-w.left)
	}
	n, err := w.w.Write(p)
	w.left -= int64(n)
	if err != nil {
		return n, err
	}
	return n, w.finish()
}

// finish pads a complete entry.
func (w *Writer) finish() error {
	if w.left != 0 || w.padding == 0 {
		return nil
	}
	_, err := w.w.Write(make([]byte, w.padding))
	w.padding = 0
	return err
}

// Close ends the archive; it does not close the underlying writer.
func (w *Writer) Close() error {
	if w.left != 0 {
		return fmt.Errorf("cpio: %d bytes of the last entry are missing", w.left)
	}
	w.inode = 0
	return w.header(Header{Name: "TRAILER!!!"})
}

func pad(n int64) int { return int(-n & 3) }
