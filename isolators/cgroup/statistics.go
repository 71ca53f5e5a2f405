package cgroup

import (
	"cmp"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// statistics keeps control files open that are read again and again: opening one costs
// more than reading it does. It holds up to maxStatistics; beyond that files are opened
// and closed as they are read, so that a round over more groups than fit does not
// replace each file just before it is wanted. What nobody read for a while goes.
//
// A descriptor does not keep its group: reading one of a group that was removed is
// ENODEV, also when there is another one of its name by now.
type statistics struct {
	mu    sync.Mutex
	m     map[statistic]*statFile
	swept time.Time
	most  int // 0 is maxStatistics, less than that none
}

// statistic is a file of a group.
type statistic struct{ dir, file string }

// statFile is an open one. It is closed with the last who uses it.
type statFile struct {
	fd    int
	users atomic.Int32 // the map is one
	used  time.Time    // guarded by statistics.mu
}

const (
	// maxStatistics is enough for 600 containers, and far less than berthd may open.
	maxStatistics = 8192
	// statisticsIdle is after how long a file is closed that nobody reads.
	statisticsIdle = 2 * time.Minute
)

func (f *statFile) release() {
	if f.users.Add(-1) == 0 {
		_ = unix.Close(f.fd) // only read
	}
}

// read returns the content of a file, without the last newline.
func (s *statistics) read(dir, file string) (string, error) {
	key := statistic{dir, file}
	for {
		f, fresh, err := s.open(key)
		if err != nil {
			return "", err
		}
		content, err := readAll(f.fd, dir+"/"+file)
		f.release()
		if err == nil || fresh || !isAny(err, unix.ENODEV) {
			return content, err
		}
		s.forget(key, f) // its group is gone; there may be another one
	}
}

// open returns a file for the caller to read and release; fresh says that it was
// opened just now.
func (s *statistics) open(key statistic) (f *statFile, fresh bool, err error) {
	now := time.Now()
	s.mu.Lock()
	f = s.m[key]
	if f != nil {
		f.used = now
		f.users.Add(1)
	}
	s.mu.Unlock()
	if f != nil {
		return f, false, nil
	}
	fd, err := open(key.dir+"/"+key.file, unix.O_RDONLY)
	if err != nil {
		return nil, false, err
	}
	f = &statFile{fd: fd, used: now}
	f.users.Store(1)
	s.keep(key, f, now)
	return f, true, nil
}

// keep puts f where the next reader finds it, if there is room.
func (s *statistics) keep(key statistic, f *statFile, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.swept) > statisticsIdle {
		s.swept = now
		for k, old := range s.m {
			if now.Sub(old.used) > statisticsIdle {
				delete(s.m, k)
				old.release()
			}
		}
	}
	if s.m == nil {
		s.m = map[statistic]*statFile{}
	}
	if len(s.m) >= cmp.Or(s.most, maxStatistics) || s.m[key] != nil {
		return
	}
	f.users.Add(1)
	s.m[key] = f
}

// forget drops f, unless it was replaced already.
func (s *statistics) forget(key statistic, f *statFile) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m[key] == f {
		delete(s.m, key)
		f.release()
	}
}

// drop closes the files of a group that is removed.
func (s *statistics) drop(dir string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, f := range s.m {
		if key.dir == dir {
			delete(s.m, key)
			f.release()
		}
	}
}
