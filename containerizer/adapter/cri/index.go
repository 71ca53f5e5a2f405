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
// engine does not: it remembers what it has decoded, and which ids were chosen for
// requests whose containers the engine may not show yet.
type index struct {
	engine containerizer.Query

	mu      sync.Mutex
	records map[containerizer.ContainerID]*known
	// ids are those of containers by their CRI id.
	ids map[string]containerizer.ContainerID
	// chosen are ids by the key of their request.
	chosen map[string]containerizer.ContainerID
}

type known struct {
	data   *byte // the first byte of what was decoded: records are written once
	record *record
}

func newIndex(engine containerizer.Query) *index {
	return &index{engine: engine, records: map[containerizer.ContainerID]*known{}, ids: map[string]containerizer.ContainerID{}, chosen: map[string]containerizer.ContainerID{}}
}

// all returns our containers by creation time, those that are in the making included.
func (x *index) all(ctx context.Context, root containerizer.ContainerID) ([]item, error) {
	list, err := x.engine.List(ctx, containerizer.Filter{Root: root})
	if err != nil {
		return nil, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if root == "" && len(x.records) > 2*len(list)+64 { // forget those that are gone
		clear(x.records)
		clear(x.ids)
	}
	items := make([]item, 0, len(list))
	for n := range list {
		if r := x.recordOf(&list[n]); r != nil {
			items = append(items, item{&list[n], r})
		}
	}
	return items, nil
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
// one that an earlier call has chosen, or a new one.
func (x *index) choose(ctx context.Context, key string, root containerizer.ContainerID) (containerizer.ContainerID, error) {
	items, err := x.all(ctx, root)
	if err != nil {
		return "", err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, i := range items {
		if i.record.key() == key && i.status.State != containerizer.StateDestroying {
			delete(x.chosen, key)
			return i.status.ID, nil
		}
	}
	if id, has := x.chosen[key]; has {
		return id, nil
	}
	id := containerizer.NewContainerID()
	if root != "" {
		id = root.Child(string(id))
	}
	x.chosen[key] = id
	return id, nil
}

// settled forgets the choice for key, once the engine shows its container or there is none.
func (x *index) settled(key string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.chosen, key)
}

// sandbox finds a pod sandbox by id or prefix.
func (x *index) sandbox(ctx context.Context, id string) (item, error) {
	return x.find(ctx, id, "pod sandbox", func(r *record) bool { return r.pod != nil })
}

// container finds a container of a pod by id or prefix.
func (x *index) container(ctx context.Context, id string) (item, error) {
	return x.find(ctx, id, "container", func(r *record) bool { return r.container != nil })
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
