package cri

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/berth-dev/berth/containerizer"
)

// item is one of our containers as it stands.
type item struct {
	status *containerizer.Status
	record *record
}

// index finds our containers among those of the engine. It knows nothing that the
// engine does not: it remembers what it has decoded, and which id belongs to which key.
// No engine but this one makes containers of ours, so one list at the first use and the
// calls since then tell of all of them; that one is still there is asked for each time.
type index struct {
	engine containerizer.Query

	mu      sync.Mutex
	records map[containerizer.ContainerID]*known
	// ids are those of containers by their CRI id.
	ids map[string]containerizer.ContainerID
	// requests are by their keys; nil before the first use.
	requests map[string]*request
	// ended counts calls that have ended.
	ended uint64
}

// request is what is known of those that have one key.
type request struct {
	id containerizer.ContainerID
	// calls are being served now. left says that one went away before its operation ended.
	calls int
	left  bool
	// ended is index.ended when the last of them ended.
	ended uint64
}

type known struct {
	data   *byte // the first byte of what was decoded: records are written once
	record *record
}

func newIndex(engine containerizer.Query) *index {
	return &index{engine: engine, records: map[containerizer.ContainerID]*known{}, ids: map[string]containerizer.ContainerID{}}
}

// all returns our containers by creation time, those that are in the making included.
func (x *index) all(ctx context.Context, root containerizer.ContainerID) ([]item, error) {
	x.mu.Lock()
	ended := x.ended
	x.mu.Unlock()
	list, err := x.engine.List(ctx, containerizer.Filter{Root: root})
	if err != nil {
		return nil, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if bound := 2*len(list) + 64; root == "" && (len(x.records) > bound || len(x.requests) > bound) {
		x.forget(list, ended)
	}
	var items []item
	if root == "" {
		items = make([]item, 0, len(list))
	}
	for n := range list {
		if r := x.recordOf(&list[n]); r != nil {
			items = append(items, item{&list[n], r})
		}
	}
	return items, nil
}

// forget drops what belongs to containers that are not in a list, which was made when ended calls
// had ended: what came later is not in there.
//
// Preconditions: x.mu is held.
func (x *index) forget(list []containerizer.Status, ended uint64) {
	there := make(map[containerizer.ContainerID]bool, len(list))
	for n := range list {
		there[list[n].ID] = true
	}
	clear(x.records)
	clear(x.ids)
	for key, r := range x.requests {
		if r.calls == 0 && !r.left && r.ended <= ended && !there[r.id] {
			delete(x.requests, key)
		}
	}
}

// recordOf returns the record of s, nil for a container that is not ours or that
// cannot be read.
//
// Preconditions: x.mu is held.
func (x *index) recordOf(s *containerizer.Status) *record {
	if s.Spec == nil || s.Spec.Origin == nil || s.Spec.Origin.Adapter != adapterName || len(s.Spec.Origin.Data) == 0 {
		return nil
	}
	first := &s.Spec.Origin.Data[0]
	if k := x.records[s.ID]; k != nil && k.data == first {
		return k.record
	}
	r, err := decode(s.ID, s.Spec.Origin)
	if err != nil {
		return nil
	}
	x.records[s.ID], x.ids[s.ID.Base()] = &known{first, r}, s.ID
	return r
}

// choose returns the id for a request with key: that of the container that was made for it, or
// one that an earlier call has chosen, or a new one. The caller has to call done.
func (x *index) choose(ctx context.Context, key string, parent containerizer.ContainerID) (containerizer.ContainerID, error) {
	if err := x.learn(ctx); err != nil {
		return "", err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for {
		r := x.requests[key]
		if r == nil {
			break
		}
		if r.calls > 0 {
			r.calls++
			return r.id, nil
		}
		x.mu.Unlock()
		there, going, err := x.look(ctx, r.id)
		x.mu.Lock()
		switch {
		case err != nil:
			return "", err
		case x.requests[key] != r || r.calls > 0: // somebody was faster
		case there && !going, !there && r.left: // the engine may not show yet what goes on without its caller
			r.calls++
			r.left = r.left && !there
			return r.id, nil
		default:
			delete(x.requests, key)
		}
	}
	id := containerizer.NewContainerID()
	if parent != "" {
		id = parent.Child(string(id))
	}
	x.requests[key] = &request{id: id, calls: 1}
	x.ids[id.Base()] = id
	return id, nil
}

// look says whether a container is there, and whether it is being destroyed.
func (x *index) look(ctx context.Context, id containerizer.ContainerID) (there, going bool, err error) {
	s, err := x.engine.Status(ctx, id)
	if err != nil {
		if missing(err) {
			err = nil
		}
		return false, false, err
	}
	return true, s.State == containerizer.StateDestroying, nil
}

// learn finds the requests that were served before this process.
func (x *index) learn(ctx context.Context) error {
	x.mu.Lock()
	knows := x.requests != nil
	x.mu.Unlock()
	if knows {
		return nil
	}
	items, err := x.all(ctx, "")
	if err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.requests != nil {
		return nil
	}
	x.requests = make(map[string]*request, len(items))
	for _, i := range items {
		if key := i.record.key(); x.requests[key] == nil && i.status.State != containerizer.StateDestroying {
			x.requests[key] = &request{id: i.status.ID}
		}
	}
	return nil
}

// done ends a call that has chosen. left says that its operation goes on without it.
func (x *index) done(key string, left bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.ended++
	r := x.requests[key]
	r.calls--
	r.left, r.ended = left, x.ended
}

// sandbox finds a pod sandbox by id or prefix.
func (x *index) sandbox(ctx context.Context, id string) (item, error) {
	return x.find(ctx, id, "pod sandbox", func(r *record) bool { return r.pod != nil })
}

// container finds a container of a pod by id or prefix.
func (x *index) container(ctx context.Context, id string) (item, error) {
	return x.find(ctx, id, "container", func(r *record) bool { return r.container != nil })
}

// containerID finds a container of a pod without looking whether it is there still, if it
// was seen before.
func (x *index) containerID(ctx context.Context, id string) (containerizer.ContainerID, error) {
	x.mu.Lock()
	full, has := x.ids[id]
	x.mu.Unlock()
	if has && !full.IsRoot() {
		return full, nil
	}
	i, err := x.container(ctx, id)
	if err != nil {
		return "", err
	}
	return i.status.ID, nil
}

// find looks id up among those that were seen, and searches for others.
func (x *index) find(ctx context.Context, id, kind string, of func(*record) bool) (item, error) {
	i, err := x.seen(ctx, id)
	if i.record == nil && err == nil || i.record != nil && !of(i.record) {
		return x.search(ctx, id, kind, of)
	}
	return i, err
}

// seen looks up a container that was seen before; there is no record when it was not, or
// is gone.
func (x *index) seen(ctx context.Context, id string) (item, error) {
	x.mu.Lock()
	full, has := x.ids[id]
	x.mu.Unlock()
	if !has {
		return item{}, nil
	}
	s, err := x.engine.Status(ctx, full)
	if missing(err) {
		return item{}, nil
	}
	if err != nil {
		return item{}, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return item{s, x.recordOf(s)}, nil
}

// search finds the one of a kind whose id is, or begins with, id.
func (x *index) search(ctx context.Context, id, kind string, of func(*record) bool) (item, error) {
	var found []item
	if id != "" {
		items, err := x.all(ctx, "")
		if err != nil {
			return item{}, err
		}
		for _, i := range items {
			switch base := i.status.ID.Base(); {
			case !of(i.record):
			case base == id:
				return i, nil
			case strings.HasPrefix(base, id):
				found = append(found, i)
			}
		}
	}
	switch len(found) {
	case 0:
		return item{}, fmt.Errorf("%s %q: %w", kind, id, containerizer.ErrNotFound)
	case 1:
		return found[0], nil
	}
	return item{}, fmt.Errorf("%s %q: %d have ids that begin so: %w", kind, id, len(found), containerizer.ErrInvalid)
}
