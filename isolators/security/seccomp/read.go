package seccomp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	profile "github.com/moby/profiles/seccomp"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// maxProfileBytes bounds a profile file. Docker's has 18 KiB.
const maxProfileBytes = 1 << 20

// read parses the profile file at path.
func read(path string) (*profile.Seccomp, error) {
	// Without O_NONBLOCK a FIFO or a device could hold the launch up for ever.
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", containerizer.ErrNotFound, err)
	}
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // only read from
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("it is not a regular file: %w", containerizer.ErrInvalid)
	}
	data, err := io.ReadAll(io.LimitReader(file, maxProfileBytes+1))
	if err != nil {
		return nil, err
	}
	return parse(data)
}

// parse decodes a profile.
func parse(data []byte) (*profile.Seccomp, error) {
	if len(data) > maxProfileBytes {
		return nil, fmt.Errorf("it has more than %d bytes: %w", maxProfileBytes, containerizer.ErrInvalid)
	}
	if !bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		return nil, fmt.Errorf("it is not a JSON object: %w", containerizer.ErrInvalid)
	}
	var doc profile.Seccomp
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("it is not a profile (%w): %w", err, containerizer.ErrInvalid)
	}
	return &doc, nil
}
