package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/user"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	mesosv1 "github.com/berth-dev/berth/proto/mesos/v1"
	agentv1 "github.com/berth-dev/berth/proto/mesos/v1/agent"
)

// place is a path within a sandbox.
type place struct {
	virtual string // as it was named
	root    string // the sandbox of a root container
	rel     string
}

// placeOf finds the sandbox that a virtual path leads into. The paths of sandboxes on
// the host are the only ones.
func (s *Server) placeOf(virtual string) (*place, error) {
	if !filepath.IsAbs(virtual) || strings.ContainsRune(virtual, 0) {
		return nil, badRequest("path %.300q is not absolute", virtual)
	}
	// What ".." leads to is not known before the links are followed: none is taken.
	for part := range strings.SplitSeq(virtual, "/") {
		if part == ".." {
			return nil, badRequest("path %.300q leads outwards", virtual)
		}
	}
	clean := path.Clean(virtual)
	below, is := strings.CutPrefix(clean, filepath.Join(s.o.WorkDir, "containers")+"/")
	if !is {
		return nil, &httpError{http.StatusNotFound, fmt.Sprintf("nothing is at %.300q", virtual)}
	}
	id, rel, _ := strings.Cut(below, "/")
	return &place{virtual: clean, root: filepath.Join(s.o.WorkDir, "containers", id), rel: path.Join(".", rel)}, nil
}

// open does f with the file at p. Nothing leads out of the sandbox.
func (p *place) open(f func(*os.File, fs.FileInfo) error) error {
	root, err := os.OpenRoot(p.root)
	if err != nil {
		return fileError(p.virtual, err)
	}
	defer root.Close() //nolint:errcheck // it was only looked into
	// A named pipe must not be waited for.
	file, err := root.OpenFile(p.rel, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return fileError(p.virtual, err)
	}
	defer file.Close() //nolint:errcheck // as above
	info, err := file.Stat()
	if err != nil {
		return fileError(p.virtual, err)
	}
	return f(file, info)
}

// fileError is the status for what goes wrong with a file.
func fileError(virtual string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR), strings.HasSuffix(err.Error(), "not a directory"):
		return &httpError{http.StatusNotFound, fmt.Sprintf("nothing is at %.300q", virtual)}
	case errors.Is(err, syscall.ENXIO), errors.Is(err, syscall.ELOOP), errors.Is(err, syscall.ENAMETOOLONG), strings.Contains(err.Error(), "escapes"):
		return badRequest("path %.300q: %s", virtual, err)
	}
	return &httpError{http.StatusInternalServerError, fmt.Sprintf("path %.300q: %s", virtual, err)}
}

func (s *Server) listFiles(_ context.Context, q *request) (*agentv1.Response, error) {
	if err := s.permit(q.caller, "", actAccessSandboxes, ""); err != nil {
		return nil, err
	}
	p, err := s.placeOf(q.call.GetListFiles().GetPath())
	if err != nil {
		return nil, err
	}
	m := &agentv1.Response_ListFiles{}
	err = p.open(func(f *os.File, info fs.FileInfo) error {
		if !info.IsDir() {
			m.FileInfos = append(m.FileInfos, fileInfo(p.virtual, info))
			return nil
		}
		entries, err := f.ReadDir(-1)
		if err != nil {
			return fileError(p.virtual, err)
		}
		for _, e := range entries {
			if info, err := e.Info(); err == nil { // else it is gone
				m.FileInfos = append(m.FileInfos, fileInfo(path.Join(p.virtual, e.Name()), info))
			}
		}
		return nil
	})
	return &agentv1.Response{Type: agentv1.Response_LIST_FILES.Enum(), ListFiles: m}, err
}

func fileInfo(virtual string, info fs.FileInfo) *mesosv1.FileInfo {
	m := &mesosv1.FileInfo{
		Path: &virtual, Size: new(uint64(max(info.Size(), 0))), //nolint:gosec // not negative
		Mtime: &mesosv1.TimeInfo{Nanoseconds: new(info.ModTime().UnixNano())},
	}
	if st, is := info.Sys().(*syscall.Stat_t); is {
		m.Nlink = new(int32(st.Nlink)) //nolint:gosec // file systems have fewer
		m.Mode = &st.Mode
		m.Uid, m.Gid = new(strconv.FormatUint(uint64(st.Uid), 10)), new(strconv.FormatUint(uint64(st.Gid), 10))
		if u, err := user.LookupId(*m.Uid); err == nil {
			m.Uid = &u.Username
		}
		if g, err := user.LookupGroupId(*m.Gid); err == nil {
			m.Gid = &g.Name
		}
	}
	return m
}

// maxRead is what one call reads at most: 16 pages, as of Mesos.
const maxRead = 16 * 4096

func (s *Server) readFile(_ context.Context, q *request) (*agentv1.Response, error) {
	if err := s.permit(q.caller, "", actAccessSandboxes, ""); err != nil {
		return nil, err
	}
	c := q.call.GetReadFile()
	p, err := s.placeOf(c.GetPath())
	if err != nil {
		return nil, err
	}
	m := &agentv1.Response_ReadFile{Data: []byte{}}
	err = p.open(func(f *os.File, info fs.FileInfo) error {
		if !info.Mode().IsRegular() {
			return badRequest("%.300q is no regular file", p.virtual)
		}
		size := uint64(max(info.Size(), 0)) //nolint:gosec // not negative
		m.Size = &size
		length := uint64(maxRead)
		if c.Length != nil {
			length = min(length, c.GetLength())
		}
		if c.GetOffset() >= size || length == 0 {
			return nil
		}
		data := make([]byte, min(length, size-c.GetOffset()))
		n, err := f.ReadAt(data, int64(c.GetOffset())) //nolint:gosec // below the size of a file
		if err != nil && !errors.Is(err, io.EOF) {
			return fileError(p.virtual, err)
		}
		m.Data = data[:n]
		return nil
	})
	return &agentv1.Response{Type: agentv1.Response_READ_FILE.Enum(), ReadFile: m}, err
}
