package pull

import (
	"io/fs"
	"path/filepath"
	"runtime"
	"strings"
)

// sourceFile is a file of this machine that goes into a layer.
type sourceFile struct {
	path string // on this machine
	name string // in the layer
	mode fs.FileMode
	size int64
}

// collect walks roots in lexical order and returns the regular files that keep
// wants, until done says that it is enough.
func collect(roots []string, keep func(sourceFile) bool, done func(files []sourceFile, bytes int64) bool) []sourceFile {
	var files []sourceFile
	var bytes int64
	for _, root := range roots {
		_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return nil //nolint:nilerr // what is not readable is not used
			}
			info, err := d.Info()
			if err != nil {
				return nil //nolint:nilerr // it vanished
			}
			f := sourceFile{path: path, name: strings.TrimPrefix(path, "/"), mode: info.Mode().Perm(), size: info.Size()}
			if !keep(f) {
				return nil
			}
			files = append(files, f)
			if bytes += f.size; done(files, bytes) {
				return fs.SkipAll
			}
			return nil
		})
		if done(files, bytes) {
			break
		}
	}
	return files
}

// atMost ends a collection after n bytes.
func atMost(n int64) func([]sourceFile, int64) bool {
	return func(_ []sourceFile, bytes int64) bool { return bytes >= n }
}

const mib = 1 << 20

// libraries are the files of the image "big".
func libraries() []sourceFile {
	return collect([]string{"/usr/lib"}, func(f sourceFile) bool {
		return strings.Contains(filepath.Base(f.path), ".so") && f.size > 0
	}, atMost(360*mib))
}

// smallFiles are those of the image "small": as many as were asked for, under
// further names when the machine has fewer.
func smallFiles(n int) []sourceFile {
	files := collect([]string{runtime.GOROOT() + "/src", "/usr/include", "/usr/share", "/usr/lib"}, func(f sourceFile) bool { //nolint:staticcheck // the tree that go run runs in
		return f.size > 0 && f.size < 64<<10
	}, func(files []sourceFile, _ int64) bool { return len(files) >= n })
	for i := 0; len(files) < n && len(files) > 0; i++ {
		f := files[i]
		f.name = "again/" + f.name
		files = append(files, f)
	}
	return files
}

// layerSizes of the image "many", bottom first: a distribution and what was put on it.
func layerSizes() []int64 {
	return []int64{
		60 * mib, 30 * mib, 2 * mib, 12 * mib, 5 * mib, 24 * mib, 8 * mib, 3 * mib, 16 * mib, 10 * mib,
		20 * mib, 6 * mib, 2 * mib, 28 * mib, 4 * mib, 14 * mib, 9 * mib, 18 * mib, 7 * mib, 22 * mib,
	}
}

// cutLayers cuts one collection into layers of about the given sizes. The last one is
// the other bottom layer.
func cutLayers(sizes []int64) [][]sourceFile {
	var total int64
	for _, n := range sizes {
		total += n
	}
	files := collect([]string{"/usr/bin", "/usr/sbin", "/etc", "/usr/share", "/usr/lib/python3", "/usr/lib/gcc", "/usr/include", "/usr/lib"},
		func(f sourceFile) bool { return f.size < 16*mib }, atMost(total+total/4))
	var out [][]sourceFile
	for _, n := range sizes {
		var layer []sourceFile
		for bytes := int64(0); bytes < n && len(files) > 0; files = files[1:] {
			layer = append(layer, files[0])
			bytes += files[0].size
		}
		out = append(out, layer)
	}
	return out
}
