package store

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// Hold makes the lease keep layers and blobs. What is there when Hold returns
// stays; the caller looks only afterwards.
func (l *Lease) Hold(ctx context.Context, layers, blobs []string) error {
	use, err := l.s.Use(ctx)
	if err != nil {
		return err
	}
	defer use.Release()
	b, err := json.Marshal(leaseRecord{Layers: layers, Blobs: blobs})
	if err != nil {
		return fmt.Errorf("encode a lease: %w", err)
	}
	// In place: the lock is on this file, and readers hold the gc lock alone.
	if err := l.lock.f.Truncate(0); err != nil {
		return class(err)
	}
	if _, err := l.lock.f.WriteAt(b, 0); err != nil {
		return fmt.Errorf("write a lease: %w", class(err))
	}
	return nil
}

// Stage makes a directory under construction, of mode 0700.
func (l *Lease) Stage() (string, error) {
	dir := l.s.path("stage", l.id+"-"+random())
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", fmt.Errorf("make a directory for unpacking: %w", class(err))
	}
	return dir, nil
}

// StageFile makes an empty file under construction.
func (l *Lease) StageFile() (*os.File, error) {
	f, err := os.OpenFile(l.s.path("stage", l.id+"-"+random()), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make a file for downloading: %w", class(err))
	}
	return f, nil
}

// leased lists what live leases hold. Precondition: the gc lock is held alone.
func (s *Store) leased() (layers, blobs map[string]bool, err error) {
	layers, blobs = map[string]bool{}, map[string]bool{}
	names, err := s.names("leases")
	if err != nil {
		return nil, nil, err
	}
	for _, name := range names {
		id := strings.TrimSuffix(name, ".json")
		if !s.live(id) {
			continue
		}
		var r leaseRecord
		b, err := os.ReadFile(s.path("leases", name))
		if err != nil && !notExist(err) {
			return nil, nil, err
		}
		if len(b) == 0 { // holds nothing yet
			continue
		}
		if err := json.Unmarshal(b, &r); err != nil {
			return nil, nil, fmt.Errorf("lease %q: %w", name, err)
		}
		for _, n := range r.Layers {
			layers[n] = true
		}
		for _, d := range r.Blobs {
			blobs[d] = true
		}
	}
	return layers, blobs, nil
}
