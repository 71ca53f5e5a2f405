package pull

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// layer is a compressed layer in a file.
type layer struct {
	path           string
	digest, diffID v1.Hash
	size           int64
	entries        int
	tarBytes       int64
}

var _ v1.Layer = (*layer)(nil)

// Digest is that of the file.
func (l *layer) Digest() (v1.Hash, error) { return l.digest, nil }

// DiffID is that of the archive.
func (l *layer) DiffID() (v1.Hash, error) { return l.diffID, nil }

// Compressed opens the file.
func (l *layer) Compressed() (io.ReadCloser, error) { return os.Open(l.path) }

// Size is that of the file.
func (l *layer) Size() (int64, error) { return l.size, nil }

// MediaType is that of a layer compressed with gzip.
func (l *layer) MediaType() (types.MediaType, error) { return types.OCILayer, nil }

// Uncompressed is not asked for.
func (*layer) Uncompressed() (io.ReadCloser, error) { return nil, errors.ErrUnsupported }

// counter counts what is written.
type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) { c.n += int64(len(p)); return len(p), nil }

// writeLayer packs files, with the directories they are in.
func writeLayer(name string, files []sourceFile) (_ *layer, err error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	l := &layer{path: name}
	packed, plain := sha256.New(), sha256.New()
	var size, inflated counter
	out := bufio.NewWriterSize(f, mib)
	z := gzip.NewWriter(io.MultiWriter(out, packed, &size))
	t := tar.NewWriter(io.MultiWriter(z, plain, &inflated))
	dirs := map[string]bool{".": true}
	for _, s := range files {
		if err := l.add(t, s, dirs); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(t.Close(), z.Close(), out.Flush()); err != nil {
		return nil, err
	}
	l.digest = v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(packed.Sum(nil))}
	l.diffID = v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(plain.Sum(nil))}
	l.size, l.tarBytes = size.n, inflated.n
	return l, nil
}

func (l *layer) add(t *tar.Writer, s sourceFile, dirs map[string]bool) error {
	data, err := os.ReadFile(s.path)
	if err != nil {
		return nil // it vanished; the image has a file less
	}
	when := time.Unix(1_700_000_000, 0)
	var missing []string
	for d := path.Dir(s.name); !dirs[d]; d = path.Dir(d) {
		dirs[d] = true
		missing = append(missing, d)
	}
	for _, name := range slices.Backward(missing) {
		if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755, ModTime: when}); err != nil {
			return err
		}
		l.entries++
	}
	h := &tar.Header{Typeflag: tar.TypeReg, Name: s.name, Mode: int64(s.mode), Size: int64(len(data)), ModTime: when}
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	l.entries++
	_, err = io.Copy(t, bytes.NewReader(data))
	return err
}
