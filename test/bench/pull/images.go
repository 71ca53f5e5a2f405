package pull

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/berth-dev/berth/test/fixtures"
)

// The images. bottom is the layer in which other differs from many, alone.
const (
	big    = "bench/big"
	many   = "bench/many"
	other  = "bench/other"
	bottom = "bench/bottom"
	small  = "bench/small"
)

// imageInfo is what the table says of an image.
type imageInfo struct {
	Digest  string
	Layers  int
	Entries int
	Bytes   int64 // compressed
	Tar     int64 // not compressed
}

// prepareImages makes sure that the registry has the images; it says what they are.
func prepareImages(ctx context.Context, host, folder string, log io.Writer) (map[string]imageInfo, error) {
	record := filepath.Join(folder, "images.json")
	infos := map[string]imageInfo{}
	if raw, err := os.ReadFile(record); err == nil && json.Unmarshal(raw, &infos) == nil {
		return infos, nil
	}
	say := func(what string) { _, _ = fmt.Fprintln(log, what) } // for who waits
	say("making the images of the pull benchmark (once)")
	tmp, err := os.MkdirTemp(folder, "layers-")
	if err != nil {
		return nil, err
	}
	contents := map[string][][]sourceFile{big: {libraries()}, small: {smallFiles(50_000)}}
	sizes := layerSizes()
	cut := cutLayers(append(sizes, sizes[0]))
	contents[many] = cut[:len(sizes)]
	contents[other] = append([][]sourceFile{cut[len(sizes)]}, cut[1:len(sizes)]...)
	contents[bottom] = cut[len(sizes):]
	made := map[string]*layer{}
	for repo, layers := range contents {
		info, err := push(ctx, host, repo, layers, tmp, made)
		if err != nil {
			return nil, fmt.Errorf("make image %q: %w", repo, err)
		}
		infos[repo] = info
		say(fmt.Sprintf("%s: %d layers, %d entries, %d MB, %d MB compressed", repo, info.Layers, info.Entries, info.Tar/1e6, info.Bytes/1e6))
	}
	raw, err := json.Marshal(infos)
	if err != nil {
		return nil, err
	}
	return infos, errors.Join(os.RemoveAll(tmp), os.WriteFile(record, raw, 0o600))
}

func push(ctx context.Context, host, repo string, contents [][]sourceFile, tmp string, made map[string]*layer) (imageInfo, error) {
	var info imageInfo
	var layers []v1.Layer
	for _, files := range contents {
		if len(files) == 0 {
			return info, errors.New("this machine has too few files")
		}
		key := files[0].path + files[0].name + files[len(files)-1].path + fmt.Sprint(len(files))
		l := made[key]
		if l == nil {
			var err error
			if l, err = writeLayer(filepath.Join(tmp, fmt.Sprint(len(made))), files); err != nil {
				return info, err
			}
			made[key] = l
		}
		layers = append(layers, l)
		info.Bytes += l.size
		info.Tar += l.tarBytes
		info.Entries += l.entries
	}
	info.Layers = len(layers)
	image, err := fixtures.Image(v1.Config{Cmd: []string{"true"}}, layers...)
	if err != nil {
		return info, err
	}
	ref, err := name.ParseReference(host+"/"+repo+":1", name.Insecure)
	if err != nil {
		return info, err
	}
	d, err := image.Digest()
	if err != nil {
		return info, err
	}
	info.Digest = d.String()
	return info, remote.Write(ref, image, remote.WithContext(ctx))
}
