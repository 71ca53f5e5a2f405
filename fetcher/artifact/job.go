package artifact

import (
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/cache"
	"github.com/berth-dev/berth/fetcher/uri"
)

// job is one artifact of a fetch.
type job struct {
	containerizer.Artifact
	x      *fetch
	index  int
	ref    *uri.Reference
	scheme uri.Scheme
	output string
	kind   containerizer.ArchiveKind // "": not to be extracted
	owner  containerizer.Owner
	as     *containerizer.Owner // with whose rights files of the node are read

	done containerizer.FetchedArtifact
}

func (j *job) what() string { return fmt.Sprintf("artifact %q", j.ref) }

// run brings the artifact into the stage.
func (j *job) run(ctx context.Context) error {
	j.done.URI = j.ref.String()
	var err error
	if j.Cache {
		err = j.runCached(ctx)
	} else {
		err = j.runDirect(ctx)
	}
	if err == nil {
		j.x.report(containerizer.ArtifactProgress{Index: j.index, Phase: "complete", Done: j.done.Bytes, Total: j.done.Bytes})
	}
	return err
}

// progress is told of a download.
func (j *job) progress(done, total int64) {
	j.x.report(containerizer.ArtifactProgress{Index: j.index, Phase: "downloading", Done: done, Total: total})
}

func (j *job) runDirect(ctx context.Context) error {
	s := &sink{j: j}
	defer s.close()
	part := uri.NewPart(s, j.Checksum)
	_, err := j.x.f.o.Downloader.Download(ctx, j.scheme, j.request(""), part, j.progress)
	if err != nil {
		return err
	}
	if err := part.Check(j.what(), j.Checksum); err != nil {
		return err
	}
	j.done.Bytes, j.done.SHA256 = part.Size(), part.SHA256()
	return j.use(ctx, part.File(), s.staged())
}

func (j *job) request(version string) uri.Request {
	return uri.Request{Reference: j.ref, Version: version, Owner: j.as}
}

// runCached does not hold the slot longer than it takes to have the entry.
func (j *job) runCached(ctx context.Context) error {
	s := &sink{j: j}
	defer s.close()
	file, err := j.lookup(ctx, s)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // read only, or closed by the sink
	return j.use(ctx, file, s.staged())
}

// lookup returns the file of the cache's entry, or of a download that did not fit.
func (j *job) lookup(ctx context.Context, s *sink) (_ *os.File, err error) {
	slot, err := j.x.f.cache.Acquire(ctx, cache.Key(j.User, j.ref.Key()))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", j.what(), err)
	}
	defer func() { err = errors.Join(err, slot.Release()) }()
	entry, err := slot.Entry()
	if err != nil {
		return nil, fmt.Errorf("%s: read the cache: %w", j.what(), err)
	}
	version := ""
	if entry != nil {
		good, err := j.matches(entry)
		if err != nil || good {
			return j.hit(slot, entry, err)
		}
		if j.Checksum == "" {
			version = entry.Version
		}
	}
	s.slot = slot
	file, err := j.download(ctx, s, version)
	switch {
	case entry == nil:
	case err == nil && file == nil: // not modified
		return j.hit(slot, entry, nil)
	default:
		_ = entry.Close() // read only
	}
	return file, err
}

// matches says whether the entry has the wanted checksum: then nobody needs to be
// asked.
func (j *job) matches(e *cache.Entry) (bool, error) {
	if j.Checksum == "" || e.Has(j.Checksum) {
		return j.Checksum != "", nil
	}
	if j.Checksum.Algorithm() != digest.SHA512 {
		return false, nil
	}
	sum := sha512.New()
	if _, err := io.Copy(sum, e.File); err != nil {
		return false, fmt.Errorf("%s: read the cache: %w", j.what(), err)
	}
	_, err := e.File.Seek(0, io.SeekStart)
	return digest.NewDigest(digest.SHA512, sum) == j.Checksum, err
}

// hit uses an entry as it is.
func (j *job) hit(slot *cache.Slot, e *cache.Entry, err error) (*os.File, error) {
	if err == nil {
		err = slot.Use()
	}
	if err != nil {
		return nil, errors.Join(err, e.Close())
	}
	j.done.Bytes, j.done.SHA256, j.done.FromCache = e.Bytes, e.SHA256, true
	j.x.report(containerizer.ArtifactProgress{Index: j.index, Phase: "cached", Done: e.Bytes, Total: e.Bytes})
	return e.File, nil
}

// download brings the artifact into the cache, if it fits. Neither file nor error is
// an entry of this version that is current.
func (j *job) download(ctx context.Context, s *sink, version string) (*os.File, error) {
	part := uri.NewPart(s, j.Checksum)
	if version == "" {
		var err error
		if version, err = j.resume(s.slot, part); err != nil {
			return nil, err
		}
	}
	out, err := j.x.f.o.Downloader.Download(ctx, j.scheme, j.request(version), part, j.progress)
	switch {
	case err != nil && ctx.Err() == nil && !errors.Is(err, containerizer.ErrUnavailable):
		return nil, errors.Join(err, s.slot.Drop()) // the next one would not go on with it
	case err != nil:
		return nil, err
	case out.NotModified:
		return nil, nil
	}
	if err := part.Check(j.what(), j.Checksum); err != nil {
		return nil, errors.Join(err, s.slot.Drop())
	}
	j.done.Bytes, j.done.SHA256 = part.Size(), part.SHA256()
	if s.bypass {
		return part.File(), nil
	}
	e, err := s.slot.Commit(cache.Record{
		URI: j.ref.String(), User: j.User, Version: out.Version, Bytes: part.Size(), SHA256: part.SHA256(), Checksum: j.Checksum,
	})
	if err != nil {
		return nil, fmt.Errorf("%s: keep it in the cache: %w", j.what(), err)
	}
	return e.File, nil
}

// resume lets part go on with what an earlier download left, and returns the version
// of that; "" is nothing.
func (j *job) resume(slot *cache.Slot, part *uri.Part) (string, error) {
	f, version := slot.Resume()
	if f == nil {
		return "", nil
	}
	if err := part.Resume(f); err != nil {
		return "", errors.Join(fmt.Errorf("%s: read an unfinished download: %w", j.what(), err), slot.Drop())
	}
	if part.Size() == 0 {
		return "", nil // there is nothing that it could be the version of
	}
	return version, nil
}

// use extracts file or puts it into the stage, where it is already if staged.
func (j *job) use(ctx context.Context, file *os.File, staged stagedState) error {
	if j.kind != "" {
		if err := j.extract(ctx, file); err != nil {
			return err
		}
		if !j.KeepArchive {
			return nil
		}
	}
	j.done.Path = path.Clean(j.output)
	if staged == inStage {
		return nil
	}
	return j.x.stage.copy(j.fileName(), file)
}

func (j *job) extract(ctx context.Context, file *os.File) error {
	j.x.report(containerizer.ArtifactProgress{Index: j.index, Phase: "extracting", Done: j.done.Bytes, Total: j.done.Bytes})
	target, err := j.x.stage.mkdir(j.treeName())
	if err != nil {
		return err
	}
	defer func() { _ = target.Close() }() // a directory
	base := path.Base(j.output)
	x := containerizer.Extraction{
		Kind: j.kind, Owner: j.owner, MaxBytes: j.x.f.o.MaxUnpackedBytes,
		Name: strings.TrimSuffix(base, path.Ext(base)),
	}
	j.done.Extracted, err = j.x.f.extractor.Extract(ctx, file, target, x)
	if err != nil {
		return fmt.Errorf("extract artifact %q: %w", j.ref, err)
	}
	return nil
}

// Names in the stage.

func (j *job) fileName() string { return fmt.Sprintf("%d.file", j.index) }
func (j *job) treeName() string { return fmt.Sprintf("%d.tree", j.index) }
