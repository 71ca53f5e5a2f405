package provisioner_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/launch/inputs"
	"github.com/berth-dev/berth/provisioner"
)

// This file holds the property that everything in this package is for: the
// overlay of a generated stack of layers, the copy of it, and a simple model of
// unpacking one archive after the other show the same tree; and so do the first two in
// a user namespace, with its owners.

// mnode is a file of the model.
type mnode struct {
	h       tar.Header
	content *string // shared by hard links
	layer   int
	used    int // the last layer that names something in it
	kids    map[string]*mnode
}

func (n *mnode) dir() bool { return n.kids != nil }

func (n *mnode) attribute() string { return n.h.PAXRecords["SCHILY.xattr.user.x"] }

// model applies layers to a tree in memory.
type model struct {
	root  *mnode
	layer int
	loop  bool // a layer led through too many symbolic links
}

func newModel() *model {
	return &model{root: &mnode{h: tar.Header{Mode: 0o755}, kids: map[string]*mnode{}}}
}

func modelDir(layer int) *mnode {
	return &mnode{h: tar.Header{Mode: 0o755, ModTime: time.Unix(0, 0)}, layer: layer, kids: map[string]*mnode{}}
}

// walk finds the directory parts, and makes what is missing. Links of the present
// layer are followed; anything else that is no directory is replaced.
func (m *model) walk(parts []string, create bool) *mnode {
	var at []*mnode
	cur := m.root
	rest := slices.Clone(parts)
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		if name == "" || name == "." {
			continue
		}
		if name == ".." {
			if len(at) > 0 {
				cur, at = at[len(at)-1], at[:len(at)-1]
			}
			continue
		}
		next := cur.kids[name]
		if next != nil && !next.dir() && next.h.Typeflag == tar.TypeSymlink && next.layer == m.layer {
			if links++; links > 40 {
				m.loop = true
				return modelDir(m.layer)
			}
			if strings.HasPrefix(next.h.Linkname, "/") {
				cur, at = m.root, nil
			}
			rest = append(strings.Split(next.h.Linkname, "/"), rest...)
			continue
		}
		if next == nil || !next.dir() {
			if !create {
				return nil
			}
			next = modelDir(m.layer)
			cur.kids[name] = next
		}
		at = append(at, cur)
		cur = next
		if create {
			cur.used = m.layer
		}
	}
	return cur
}

// apply applies one archive: what it hides first, then its entries.
func (m *model) apply(entries []tar.Header, contents []string) {
	m.layer++
	lower := m.root
	m.root = clone(lower)
	// Whiteouts hide what is below, wherever they stand in the archive; parents by
	// the names they would have at that point, so they are applied in a second
	// model that knows this layer's links.
	for i, h := range entries {
		parts := strings.Split(strings.Trim(h.Name, "/"), "/")
		base := parts[len(parts)-1]
		dir := m.walk(parts[:len(parts)-1], true)
		switch {
		case base == ".wh..wh..opq":
			m.hide(dir, "")
		case strings.HasPrefix(base, ".wh."):
			m.hide(dir, strings.TrimPrefix(base, ".wh."))
		default:
			m.entry(dir, base, h, contents[i])
		}
	}
}

// hide removes what lower layers have: everything in dir, or one name of it. What
// the present layer made stays, also inside directories of both.
func (m *model) hide(dir *mnode, name string) {
	for n, k := range dir.kids {
		if name != "" && n != name {
			continue
		}
		if k.layer != m.layer && !k.dir() {
			delete(dir.kids, n)
			continue
		}
		if !k.dir() {
			continue
		}
		if m.touched(k) {
			m.hide(k, "")
			if k.layer != m.layer { // an unlisted directory does not inherit what is hidden
				fresh := modelDir(m.layer)
				fresh.kids, fresh.used = k.kids, m.layer
				dir.kids[n] = fresh
			}
			continue
		}
		delete(dir.kids, n)
	}
}

// touched says whether the present layer has anything at or below n, a whiteout
// or an opaque marker included.
func (m *model) touched(n *mnode) bool {
	if n.layer == m.layer || n.used == m.layer {
		return true
	}
	for _, k := range n.kids {
		if m.touched(k) {
			return true
		}
	}
	return false
}

func (m *model) entry(dir *mnode, base string, h tar.Header, content string) {
	if base == "." {
		if m.root.layer == m.layer && h.PAXRecords == nil { // listed twice in one archive
			h.PAXRecords = m.root.h.PAXRecords
		}
		m.root.h, m.root.layer = h, m.layer
		return
	}
	old := dir.kids[base]
	n := &mnode{h: h, layer: m.layer}
	switch h.Typeflag {
	case tar.TypeDir:
		n.kids = map[string]*mnode{}
		if old == nil || !old.dir() {
			break
		}
		n.kids = old.kids
		if old.layer == m.layer && n.attribute() == "" { // listed twice in one archive
			n.h.PAXRecords = old.h.PAXRecords
		}
	case tar.TypeLink:
		parts := strings.Split(h.Linkname, "/")
		tdir := m.walk(parts[:len(parts)-1], false)
		target := tdir.kids[parts[len(parts)-1]]
		*n = *target
		n.layer = m.layer
		target.layer = max(target.layer, 0)
	default:
		n.content = &content
	}
	dir.kids[base] = n
}

func clone(n *mnode) *mnode {
	c := *n
	if n.dir() {
		c.kids = map[string]*mnode{}
		for k, v := range n.kids {
			c.kids[k] = clone(v)
		}
	}
	return &c
}

// lines lists the model as treeLines lists a directory, with ids as a mapping that
// begins at uid and gid has them.
func (m *model) lines(uid, gid int) []string {
	var out []string
	var walk func(p string, n *mnode)
	walk = func(p string, n *mnode) {
		owner := fmt.Sprintf("%04o %d:%d", n.h.Mode, uid+n.h.Uid, gid+n.h.Gid)
		mtime := fmt.Sprint(n.h.ModTime.Unix())
		switch {
		case n.dir():
			more := fmt.Sprintf(" %s %q", mtime, n.attribute())
			if p == "." { // nothing says when the root was modified
				more = fmt.Sprintf(" %q", n.attribute())
			}
			out = append(out, fmt.Sprintf("%s dir %s%s", p, owner, more))
			for name, k := range n.kids {
				walk(path.Join(p, name), k)
			}
		case n.h.Typeflag == tar.TypeSymlink:
			out = append(out, fmt.Sprintf("%s link -> %s %d:%d %s", p, n.h.Linkname, uid+n.h.Uid, gid+n.h.Gid, mtime))
		default:
			out = append(out, fmt.Sprintf("%s file %s %s %q %q", p, owner, mtime, *n.content, n.attribute()))
		}
	}
	walk(".", m.root)
	slices.Sort(out)
	return out
}

func treeLines(t *testing.T, root string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		owner := fmt.Sprintf("%04o %d:%d", st.Mode&0o7777, st.Uid, st.Gid)
		mtime := fmt.Sprint(info.ModTime().Unix())
		var v [64]byte
		n, _ := unix.Lgetxattr(p, "user.x", v[:])
		attribute := string(v[:max(n, 0)])
		switch {
		case info.IsDir():
			more := fmt.Sprintf(" %s %q", mtime, attribute)
			if rel == "." {
				more = fmt.Sprintf(" %q", attribute)
			}
			out = append(out, fmt.Sprintf("%s dir %s%s", rel, owner, more))
		case info.Mode()&os.ModeSymlink != 0:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			out = append(out, fmt.Sprintf("%s link -> %s %d:%d %s", rel, target, st.Uid, st.Gid, mtime))
		default:
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			out = append(out, fmt.Sprintf("%s file %s %s %q %q", rel, owner, mtime, b, attribute))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return out
}

// generator makes layers over few names, so that everything meets everything.
type generator struct {
	r    *rand.Rand
	time int64
}

func (g *generator) name() string { return string(rune('a' + g.r.IntN(4))) }

func (g *generator) path() string {
	parts := []string{g.name()}
	for g.r.IntN(3) > 0 && len(parts) < 4 {
		parts = append(parts, g.name())
	}
	return strings.Join(parts, "/")
}

func (g *generator) layer(m *model) ([]tar.Header, []string) {
	var hs []tar.Header
	var contents []string
	for range 1 + g.r.IntN(10) {
		g.time++
		h := tar.Header{Name: g.path(), Mode: int64(g.r.IntN(0o10000)), Uid: g.r.IntN(3), Gid: g.r.IntN(3), ModTime: time.Unix(1_600_000_000+g.time, 0), Format: tar.FormatPAX}
		content := ""
		switch g.r.IntN(10) {
		case 0, 1, 2:
			h.Typeflag = tar.TypeDir
			if g.r.IntN(8) == 0 {
				h.Name = "./"
			}
			if g.r.IntN(4) == 0 {
				h.PAXRecords = map[string]string{"SCHILY.xattr.user.x": fmt.Sprint(g.time)}
			}
		case 3, 4, 5:
			h.Typeflag, content = tar.TypeReg, fmt.Sprint("content ", g.time)
			h.Size = int64(len(content))
			if g.r.IntN(4) == 0 {
				h.PAXRecords = map[string]string{"SCHILY.xattr.user.x": fmt.Sprint(g.time)}
			}
		case 6:
			h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, g.path(), 0o777
			if g.r.IntN(2) == 0 {
				h.Linkname = "/" + h.Linkname
			}
		case 7:
			h.Typeflag, h.Name = tar.TypeReg, path.Join(path.Dir(h.Name), ".wh."+path.Base(h.Name))
		case 8:
			h.Typeflag, h.Name = tar.TypeReg, path.Join(h.Name, ".wh..wh..opq")
		case 9:
			var ok bool
			if h.Linkname, ok = g.target(m); !ok {
				continue
			}
			h.Typeflag = tar.TypeLink
		}
		hs, contents = append(hs, h), append(contents, content)
	}
	return hs, contents
}

// target picks a file of the lower layers to link to, which the new layer will
// not touch: its names do not meet the generator's.
func (g *generator) target(m *model) (string, bool) {
	var found []string
	for _, name := range slices.Sorted(maps.Keys(m.root.kids)) {
		if strings.HasPrefix(name, "keep") {
			found = append(found, name)
		}
	}
	if len(found) == 0 {
		return "", false
	}
	return found[g.r.IntN(len(found))], true
}

func encode(t *testing.T, hs []tar.Header, contents []string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i, h := range hs {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(contents[i])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// The first ids of the host that mountMapped gives a user namespace.
const (
	mappedUID = 300_000
	mappedGID = 400_000
)

// mountMapped mounts a root filesystem as a container with a user namespace gets it.
func mountMapped(t *testing.T, r *containerizer.Rootfs) string {
	t.Helper()
	mapped := *r
	mapped.IDMapped = true
	var m inputs.IDMapper
	defer m.Close()
	uids := []specs.LinuxIDMapping{{HostID: mappedUID, Size: 65536}}
	gids := []specs.LinuxIDMapping{{HostID: mappedGID, Size: 65536}}
	f, err := inputs.MountRootfs(&mapped, uids, gids, &m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return fmt.Sprintf("/proc/self/fd/%d/.", f.Fd())
}

func TestStacksShowTheSame(t *testing.T) {
	f := newFakeFetcher()
	quiet := func(o *provisioner.Options) { o.Log = nil }
	overlay, root := newStore(t, f, backends()["overlay"], quiet)
	copied := open(t, root, f, backends()["copy"], quiet)
	rounds := 40
	if testing.Short() {
		rounds = 10
	}
	for seed := range rounds {
		checkStack(t, f, overlay, copied, uint64(seed))
	}
}

func checkStack(t *testing.T, f *fakeFetcher, overlay, copied *provisioner.Provisioner, seed uint64) {
	t.Helper()
	g := &generator{r: rand.New(rand.NewPCG(seed, 1))}
	m := newModel()
	var layers [][]byte
	var story strings.Builder
	for n := range 1 + g.r.IntN(5) {
		hs, contents := g.layer(m)
		g.time++
		keep := fmt.Sprintf("keep%d", n)
		hs = append(hs, tar.Header{Typeflag: tar.TypeReg, Name: keep, Mode: 0o600, Size: int64(len(keep)), ModTime: time.Unix(g.time, 0), Format: tar.FormatPAX})
		contents = append(contents, keep)
		fmt.Fprintf(&story, "layer %d\n", n)
		for _, h := range hs {
			fmt.Fprintf(&story, "  %c %s %s\n", h.Typeflag, h.Name, h.Linkname)
		}
		m.apply(hs, contents)
		layers = append(layers, encode(t, hs, contents))
	}
	name := fmt.Sprint("stack", seed)
	f.image(name, layers...)
	want := m.lines(0, 0)
	mapped := m.lines(mappedUID, mappedGID)
	for backend, p := range map[string]*provisioner.Provisioner{"overlay": overlay, "copy": copied} {
		got, err := p.Provision(t.Context(), id(name), source(name))
		if m.loop && errors.Is(err, containerizer.ErrInvalid) {
			continue
		}
		if err != nil || m.loop {
			t.Errorf("seed %d, %s: error %v (a loop of links: %v)\n%s", seed, backend, err, m.loop, story.String())
			continue
		}
		if diff := cmp.Diff(want, treeLines(t, mountRootfs(t, got.Rootfs))); diff != "" {
			t.Errorf("seed %d, %s (-model +%s):\n%s%s", seed, backend, backend, diff, story.String())
		}
		for range 2 { // the second start finds what the first one left
			if got.Rootfs.Volatile {
				must(t, os.RemoveAll(filepath.Join(got.Rootfs.Work, "work", "incompat")))
			}
			if diff := cmp.Diff(mapped, treeLines(t, mountMapped(t, got.Rootfs))); diff != "" {
				t.Errorf("seed %d, %s in a user namespace (-model +%s):\n%s%s", seed, backend, backend, diff, story.String())
				break
			}
		}
		if err := p.Destroy(t.Context(), id(name)); err != nil {
			t.Error(err)
		}
	}
}
