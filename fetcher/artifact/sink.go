package artifact

import (
	"errors"
	"fmt"
	"os"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/cache"
	"github.com/berth-dev/berth/fetcher/uri"
)

// stagedState says where a downloaded file is.
type stagedState int

const (
	elsewhere stagedState = iota
	inStage
)

// sink takes a download: into the cache while it has room, else into the stage. It
// keeps to the limit of the whole fetch.
type sink struct {
	j      *job
	slot   *cache.Slot // nil: the artifact is not cached
	bypass bool        // there was no room
	file   *os.File    // in the stage
	size   int64       // counted in the fetch's bytes
}

var _ uri.Sink = (*sink)(nil)

func (s *sink) staged() stagedState {
	if s.file != nil {
		return inStage
	}
	return elsewhere
}

// Begin implements [uri.Sink].
func (s *sink) Begin(keep, size int64, version string) (*os.File, error) {
	if err := s.charge(max(keep, size)); err != nil {
		return nil, err
	}
	if s.slot != nil && !s.bypass {
		f, err := s.slot.Begin(keep, size, version)
		if !errors.Is(err, cache.ErrNoRoom) {
			return f, err
		}
		s.bypass = true
		if err := s.slot.Abandon(); err != nil {
			return nil, err
		}
		if keep > 0 {
			return f, nil // it goes on in the file it has
		}
		_ = f.Close() // empty
	}
	if s.bypass && s.file == nil && keep > 0 {
		return s.slot.Begin(keep, size, version)
	}
	return s.open()
}

// open returns the file in the stage.
func (s *sink) open() (*os.File, error) {
	if s.file != nil {
		return s.file, nil
	}
	f, err := s.j.x.stage.create(s.j.fileName())
	s.file = f
	return f, err
}

// Room implements [uri.Sink].
func (s *sink) Room(size int64) error {
	if err := s.charge(size); err != nil {
		return err
	}
	if s.slot == nil || s.bypass {
		return nil
	}
	err := s.slot.Room(size)
	if errors.Is(err, cache.ErrNoRoom) {
		s.bypass = true
		return s.slot.Abandon()
	}
	return err
}

// charge counts what the download has or will have.
func (s *sink) charge(size int64) error {
	if size <= s.size {
		return nil
	}
	most := s.j.x.f.o.MaxBytes
	if s.j.x.bytes.Add(size-s.size) > most {
		return fmt.Errorf("more than the %d bytes that one fetch may download: %w", most, containerizer.ErrResourceExhausted)
	}
	s.size = size
	return nil
}

// close closes the file in the stage; it was read from since it was written.
func (s *sink) close() {
	if s.file != nil {
		_ = s.file.Close()
	}
}
