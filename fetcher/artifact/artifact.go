package artifact

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/cache"
	"github.com/berth-dev/berth/fetcher/uri"
)

// Options of a fetcher. The zero value works.
type Options struct {
	// MaxBytes bounds the downloads of one fetch together, MaxUnpackedBytes what one
	// archive unpacks to; 0 is 100 GiB.
	MaxBytes, MaxUnpackedBytes int64
	// Parallel is how many artifacts of one fetch are downloaded at once; 0 is 4.
	Parallel int
	// Downloader has the settings of downloads.
	Downloader uri.Downloader
	// LookupUser finds users of the node by name; nil reads the node's user database.
	LookupUser func(name string) (containerizer.Owner, error)
}

const defaultMax = 100 << 30

// Fetcher fetches artifacts.
type Fetcher struct {
	schemes   []uri.Scheme
	cache     *cache.Cache
	extractor containerizer.ArchiveExtractor
	o         Options
}

var _ containerizer.Artifacts = (*Fetcher)(nil)

// New returns a fetcher for some schemes. It does no I/O.
func New(schemes []uri.Scheme, c *cache.Cache, x containerizer.ArchiveExtractor, o Options) *Fetcher {
	if o.MaxBytes == 0 {
		o.MaxBytes = defaultMax
	}
	if o.MaxUnpackedBytes == 0 {
		o.MaxUnpackedBytes = defaultMax
	}
	if o.Parallel == 0 {
		o.Parallel = 4
	}
	if o.LookupUser == nil {
		o.LookupUser = lookupUser
	}
	return &Fetcher{schemes: schemes, cache: c, extractor: x, o: o}
}

// CacheUsage implements [containerizer.Artifacts].
func (f *Fetcher) CacheUsage(context.Context) (*containerizer.ArtifactCacheUsage, error) {
	u, err := f.cache.Usage()
	if err != nil {
		return nil, err
	}
	return &containerizer.ArtifactCacheUsage{
		Entries: u.Entries, UsedEntries: u.UsedEntries, Bytes: u.Bytes, UsedBytes: u.UsedBytes, MaxBytes: u.MaxBytes,
	}, nil
}

// PruneCache implements [containerizer.Artifacts].
func (f *Fetcher) PruneCache(ctx context.Context, unused time.Duration) (int64, error) {
	return f.cache.Prune(ctx, unused)
}

// Fetch implements [containerizer.ArtifactFetcher].
func (f *Fetcher) Fetch(ctx context.Context, dir string, list []containerizer.Artifact, o containerizer.FetchOptions) (_ []containerizer.FetchedArtifact, err error) {
	run := &fetch{f: f, progress: o.Progress}
	for i := range list {
		j, err := run.plan(i, &list[i], o.Owner)
		if err != nil {
			return nil, err
		}
		run.jobs = append(run.jobs, j)
	}
	if len(list) == 0 {
		return nil, nil
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, fmt.Errorf("fetch into %q: %w", dir, err)
	}
	if run.stage, err = newStage(dir); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, run.stage.remove()) }()
	if err := run.fetchAll(ctx); err != nil {
		return nil, err
	}
	done := make([]containerizer.FetchedArtifact, len(run.jobs))
	for i, j := range run.jobs {
		if err := j.place(); err != nil {
			err = fmt.Errorf("place artifact %q in %q: %w", j.ref, dir, uri.DiskError(err))
			return nil, errors.Join(err, run.placed.undo(run.stage))
		}
		done[i] = j.done
	}
	return done, nil
}

// fetch is one run of Fetch.
type fetch struct {
	f      *Fetcher
	stage  *stage
	jobs   []*job
	placed placed
	bytes  atomic.Int64 // downloaded or about to be, by all jobs

	mu       sync.Mutex // orders the calls of progress
	progress func(containerizer.ArtifactProgress)
}

func (x *fetch) report(p containerizer.ArtifactProgress) {
	if x.progress == nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.progress(p)
}

// fetchAll brings all artifacts into the stage; the first that fails stops the rest.
func (x *fetch) fetchAll(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(x.f.o.Parallel)
	for _, j := range x.jobs {
		g.Go(func() error { return j.run(ctx) })
	}
	return g.Wait()
}

// plan checks an artifact as far as that can be done without I/O.
func (x *fetch) plan(index int, a *containerizer.Artifact, owner *containerizer.Owner) (*job, error) {
	if err := a.Validate(); err != nil {
		return nil, err
	}
	ref, err := uri.Parse(a.URI)
	if err != nil {
		return nil, err
	}
	j := &job{x: x, index: index, Artifact: *a, ref: ref, output: a.Output}
	if ref.Checksum != "" && a.Checksum != "" && ref.Checksum != a.Checksum {
		return nil, fmt.Errorf("artifact %q: the URI has another checksum than %s: %w", ref, a.Checksum, containerizer.ErrInvalid)
	}
	if j.Checksum == "" {
		j.Checksum = ref.Checksum
	}
	if j.output == "" {
		j.output = ref.Name
	}
	if !a.Executable && !a.NoExtract {
		j.kind = kindOf(filepath.Base(j.output))
	}
	for _, s := range x.f.schemes {
		if slices.Contains(s.Names(), ref.URL.Scheme) {
			j.scheme = s
		}
	}
	if j.scheme == nil {
		return nil, fmt.Errorf("artifact %q: the scheme %q is not supported (%s are): %w", ref, ref.URL.Scheme, strings.Join(x.f.names(), ", "), containerizer.ErrUnsupported)
	}
	j.owner = containerizer.Owner{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
	if owner != nil {
		j.owner = *owner
	}
	if a.User != "" {
		if j.owner, err = x.f.owner(a.User); err != nil {
			return nil, fmt.Errorf("artifact %q: %w", ref, err)
		}
		j.as = &j.owner
	}
	return j, nil
}

// names are all schemes.
func (f *Fetcher) names() []string {
	var all []string
	for _, s := range f.schemes {
		all = append(all, s.Names()...)
	}
	return all
}

// kindOf tells an archive by its name; "" is none.
func kindOf(name string) containerizer.ArchiveKind {
	name = strings.ToLower(name)
	for _, k := range []struct {
		kind    containerizer.ArchiveKind
		endings []string
	}{
		{containerizer.ArchiveTar, []string{".tar", ".tgz", ".tar.gz", ".tbz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz", ".tzst", ".tar.zst"}},
		{containerizer.ArchiveZip, []string{".zip"}},
		{containerizer.ArchiveFile, []string{".gz", ".bz2", ".xz", ".zst"}},
	} {
		for _, e := range k.endings {
			if strings.HasSuffix(name, e) && len(name) > len(e) {
				return k.kind
			}
		}
	}
	return ""
}
