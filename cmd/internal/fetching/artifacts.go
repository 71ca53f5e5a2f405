package fetching

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/docker/go-units"

	"github.com/berth-dev/berth/cmd/internal/config"
	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/artifact"
	"github.com/berth-dev/berth/fetcher/cache"
	"github.com/berth-dev/berth/fetcher/uri"
	"github.com/berth-dev/berth/fetcher/uri/file"
	"github.com/berth-dev/berth/fetcher/uri/ftp"
	"github.com/berth-dev/berth/fetcher/uri/hdfs"
	"github.com/berth-dev/berth/fetcher/uri/http"
	"github.com/berth-dev/berth/fetcher/uri/s3"
	"github.com/berth-dev/berth/provisioner/unpack"
)

// Artifacts makes the fetcher of artifacts that cfg describes. It does no I/O.
func Artifacts(cfg config.Config) (containerizer.Artifacts, error) {
	conf := cfg.Artifacts
	var err error
	var sizes [3]int64
	for i, s := range []struct{ key, value string }{
		{"cache_size", conf.CacheSize}, {"max_size", conf.MaxSize}, {"max_unpacked", conf.MaxUnpacked},
	} {
		if s.value == "" {
			continue
		}
		if sizes[i], err = units.RAMInBytes(s.value); err != nil || sizes[i] <= 0 {
			return nil, fmt.Errorf("configuration: artifacts.%s = %q is not a size: %w", s.key, s.value, containerizer.ErrInvalid)
		}
	}
	return artifact.New(
		schemes(conf.Hadoop),
		cache.New(filepath.Join(cfg.Root, "artifacts"), cache.Options{MaxBytes: sizes[0]}),
		unpack.NewExtractor(Unpacker()),
		artifact.Options{
			MaxBytes: sizes[1], MaxUnpackedBytes: sizes[2],
			Downloader: uri.Downloader{Stall: time.Duration(conf.StallTimeoutSeconds) * time.Second},
		},
	), nil
}

// schemes are all that artifacts can be fetched by. Each has names of its own, so
// their order does not matter.
func schemes(hadoop string) []uri.Scheme {
	return []uri.Scheme{
		file.New(),
		http.New(http.Options{}),
		s3.New(s3.Options{}),
		ftp.New(ftp.Options{}),
		hdfs.New(hdfs.Options{Command: hadoop}),
	}
}
