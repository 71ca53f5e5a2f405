package stack

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// A list of files is in the format of mtree(5), version 2, with one line an entry in
// the order of the walk, so that mtree and bsdtar read it. Its last line is a
// comment with the digest of the lines before.
const (
	listBegin = "#mtree v2.0\n"
	listEnd   = "# sha256 "
)

// lister walks a layer and makes a line of each entry.
type lister struct {
	line   func(string) error
	hashed map[uint64]string // inode of a file with several names -> digest
	buf    []byte
}

// List writes what is in the directory dir: names, types, modes, owners, times of
// modification, extended attributes, link counts and digests.
func List(ctx context.Context, w io.Writer, dir string) error {
	h := sha256.New()
	b := bufio.NewWriterSize(io.MultiWriter(w, h), 64<<10)
	_, _ = b.WriteString(listBegin) // an error stays until Flush
	if err := walk(ctx, dir, func(line string) error { _, err := b.WriteString(line); return err }); err != nil {
		return err
	}
	if err := b.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%s%s\n", listEnd, hex.EncodeToString(h.Sum(nil)))
	return err
}

// ErrList says that it is the list that is broken.
var ErrList = errors.New("the list of files is damaged")

// CheckList says whether a list is whole.
func CheckList(r io.Reader) error {
	h := sha256.New()
	b := bufio.NewReaderSize(r, 64<<10)
	for n := 0; ; n++ {
		line, err := b.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull): // a part of a long line
		case err != nil && !errors.Is(err, io.EOF):
			return fmt.Errorf("read the list of files: %w", err)
		case err != nil, n == 0 && string(line) != listBegin:
			return ErrList
		}
		if sum, ok := bytes.CutPrefix(line, []byte(listEnd)); ok {
			if _, err := b.ReadByte(); !errors.Is(err, io.EOF) || string(bytes.TrimSpace(sum)) != hex.EncodeToString(h.Sum(nil)) {
				return ErrList
			}
			return nil
		}
		_, _ = h.Write(line) // never fails (hash.Hash)
	}
}

// VerifyList says in what the directory dir differs from a list that CheckList found
// whole; ErrDataCorrupt then.
func VerifyList(ctx context.Context, r io.Reader, dir string) error {
	v := &verifier{r: bufio.NewReaderSize(r, 64<<10)}
	if _, err := v.r.ReadString('\n'); err != nil { // the format
		return ErrList
	}
	if err := v.next(); err != nil {
		return err
	}
	if err := walk(ctx, dir, v.compare); err != nil {
		return err
	}
	if v.want != "" {
		return differs("%s is missing", name(v.want))
	}
	return nil
}

// verifier reads a list beside a walk.
type verifier struct {
	r    *bufio.Reader
	want string // the next line; "" at the end
}

func (v *verifier) next() error {
	line, err := v.r.ReadString('\n')
	if err != nil {
		return ErrList
	}
	if v.want = line; strings.HasPrefix(line, listEnd) {
		v.want = ""
	}
	return nil
}

func (v *verifier) compare(got string) error {
	switch {
	case got == v.want:
		return v.next()
	case v.want == "" || order(name(got), name(v.want)) < 0:
		return differs("%s is there and does not belong", name(got))
	case name(got) != name(v.want):
		return differs("%s is missing", name(v.want))
	}
	had, want := strings.Fields(got), strings.Fields(v.want)
	for _, key := range want {
		if !slices.Contains(had, key) {
			return differs("%s: it should have %s", name(got), key)
		}
	}
	return differs("%s has more than it should", name(got))
}

// name is the first field of a line.
func name(line string) string {
	n, _, _ := strings.Cut(line, " ")
	return n
}

// order is that of the walk: a directory comes right before what is in it.
func order(a, b string) int {
	return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/"))
}

func walk(ctx context.Context, dir string, line func(string) error) error {
	fd, err := unix.Open(dir, dirFlags, 0)
	if err != nil {
		return fmt.Errorf("open %q: %w", dir, err)
	}
	defer func() { _ = unix.Close(fd) }()
	l := &lister{line: line, hashed: map[uint64]string{}, buf: make([]byte, 128<<10)}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("stat %q: %w", dir, err)
	}
	return l.dir(ctx, fd, &st, ".")
}

// dir makes the lines of a directory and all that is in it.
func (l *lister) dir(ctx context.Context, fd int, st *unix.Stat_t, path string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	line, err := appendXattrs(fd, begin(path, "dir", st))
	if err != nil {
		return fmt.Errorf("%q: %w", path, err)
	}
	if err := l.line(string(append(line, '\n'))); err != nil {
		return err
	}
	list, err := names(fd)
	if err != nil {
		return fmt.Errorf("list %q: %w", path, err)
	}
	slices.SortFunc(list, func(a, b string) int { return strings.Compare(encode(a), encode(b)) })
	for _, n := range list {
		if err := l.node(ctx, fd, n, path+"/"+encode(n)); err != nil {
			return err
		}
	}
	return nil
}

func (l *lister) node(ctx context.Context, dir int, name, path string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("stat %q: %w", path, err)
	}
	var line []byte
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		fd, err := unix.Openat(dir, name, dirFlags, 0)
		if err != nil {
			return fmt.Errorf("open %q: %w", path, err)
		}
		defer func() { _ = unix.Close(fd) }()
		return l.dir(ctx, fd, &st, path)
	case unix.S_IFREG:
		var err error
		if line, err = l.regular(dir, name, path, &st); err != nil {
			return err
		}
	case unix.S_IFLNK:
		target, err := readlink(&node{dir: dir, name: name})
		if err != nil {
			return err
		}
		line = append(begin(path, "link", &st), " link="+encode(target)...)
	case unix.S_IFIFO:
		line = begin(path, "fifo", &st)
	case unix.S_IFCHR:
		line = device(begin(path, "char", &st), st.Rdev)
	case unix.S_IFBLK:
		line = device(begin(path, "block", &st), st.Rdev)
	default:
		return differs("%s is a socket, or unknown", path)
	}
	return l.line(string(append(line, '\n')))
}

// regular is the line of a regular file.
func (l *lister) regular(dir int, name, path string, st *unix.Stat_t) ([]byte, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", path, err)
	}
	defer func() { _ = unix.Close(fd) }()
	sum, known := l.hashed[st.Ino]
	if !known {
		if sum, err = l.hash(fd); err != nil {
			return nil, fmt.Errorf("read %q: %w", path, err)
		}
		if st.Nlink > 1 {
			l.hashed[st.Ino] = sum
		}
	}
	line := fmt.Appendf(begin(path, "file", st), " size=%d sha256digest=%s", st.Size, sum)
	if line, err = appendXattrs(fd, line); err != nil {
		return nil, fmt.Errorf("%q: %w", path, err)
	}
	return line, nil
}

func (l *lister) hash(fd int) (string, error) {
	h := sha256.New()
	for {
		n, err := unix.Read(fd, l.buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return "", err
		}
		if n == 0 {
			return hex.EncodeToString(h.Sum(nil)), nil
		}
		_, _ = h.Write(l.buf[:n]) // never fails (hash.Hash)
	}
}

// begin begins a line with what every entry has. A whiteout's time means nothing,
// nor does a directory's link count.
func begin(path, kind string, st *unix.Stat_t) []byte {
	b := make([]byte, 0, 256)
	b = fmt.Appendf(b, "%s type=%s mode=0%o uid=%d gid=%d", path, kind, st.Mode&0o7777, st.Uid, st.Gid)
	if kind != "dir" {
		b = append(b, " nlink="...)
		b = strconv.AppendUint(b, uint64(st.Nlink), 10) //nolint:unconvert // another type on arm64
	}
	if !whiteout(st) {
		b = fmt.Appendf(b, " time=%d.%09d", st.Mtim.Sec, st.Mtim.Nsec)
	}
	return b
}

func device(line []byte, dev uint64) []byte {
	return fmt.Appendf(line, " device=linux,%d,%d", unix.Major(dev), unix.Minor(dev))
}

// appendXattrs adds extended attributes to a line.
func appendXattrs(fd int, line []byte) ([]byte, error) {
	list, err := xattrList(fd)
	if err != nil {
		return nil, err
	}
	slices.Sort(list)
	for _, n := range list {
		value, err := xattr(fd, n)
		if err != nil {
			return nil, err
		}
		line = append(line, " xattr."+encode(n)+"="+base64.StdEncoding.EncodeToString(value)...)
	}
	return line, nil
}

// encode writes a name as vis(3) does with VIS_OCTAL and VIS_GLOB: without white
// space and what is special to mtree(5).
func encode(s string) string {
	special := func(r byte) bool { return r <= ' ' || r >= 0x7f || strings.IndexByte(`\#*?[=`, r) >= 0 }
	i := 0
	for i < len(s) && !special(s[i]) {
		i++
	}
	if i == len(s) {
		return s
	}
	b := []byte(s[:i])
	for ; i < len(s); i++ {
		if special(s[i]) {
			b = append(b, '\\', '0'+s[i]>>6, '0'+s[i]>>3&7, '0'+s[i]&7)
		} else {
			b = append(b, s[i])
		}
	}
	return string(b)
}

// VerifyFile is VerifyList with the list in a file. The error is ErrNotFound when
// there is none, ErrList when it is not whole.
func VerifyFile(ctx context.Context, list, dir string) error {
	f, err := os.Open(list)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %w", err, containerizer.ErrNotFound)
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // was only read
	if err := CheckList(f); err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return VerifyList(ctx, f, dir)
}
