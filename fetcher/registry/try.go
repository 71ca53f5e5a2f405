package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/registry/hosts"
)

// lie is an answer that is not what was asked for.
type lie struct{ error }

func (l *lie) Unwrap() error { return l.error }

// question is something that is asked of one host after the other.
type question struct {
	what string
	need hosts.Capability
	// avoid says who is asked only if there is nobody else; nil is none.
	avoid func(*endpoint) bool
}

// failure is what an endpoint answered.
type failure struct {
	e   *endpoint
	err error
}

// try asks the registry's hosts in their order until f succeeds with one. In the
// first round a host has little time to answer while there are others; in later
// ones, after a pause, all the time.
func (o *Origin) try(ctx context.Context, q *question, f func(e *endpoint, limit time.Duration) error) error {
	p := patience{client: o.client}
	for round := 0; ; round++ {
		list := o.order(q, round)
		if len(list) == 0 {
			return fmt.Errorf("%s: no host of the registry may be asked for that (capabilities in %q): %w",
				q.what, o.endpoints[0].from, containerizer.ErrFailedPrecondition)
		}
		var failed []failure
		for i, e := range list {
			var limit time.Duration
			if round == 0 && i < len(list)-1 {
				limit = e.patient
			}
			err := f(e, limit)
			if err == nil {
				return nil
			}
			err = e.auth.denied(err)
			if ctx.Err() != nil {
				return err
			}
			o.note(e, err)
			failed = append(failed, failure{e, err})
		}
		again, after, err := summary(q.what, failed)
		if !again {
			return err
		}
		if err := p.more(ctx, err, after); err != nil {
			return err
		}
	}
}

// note learns from a failure.
func (o *Origin) note(e *endpoint, err error) {
	o.client.note(e, err)
	var l *lie
	if errors.As(err, &l) || errors.Is(err, containerizer.ErrPermission) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.exclude(e)
	}
}

// order is who to ask now: all that may be asked, without those that are down or
// bad or to be avoided, as long as that leaves somebody.
func (o *Origin) order(q *question, round int) []*endpoint {
	o.mu.Lock()
	defer o.mu.Unlock()
	var able, honest, up, best []*endpoint
	for _, e := range o.endpoints {
		if e.can&q.need == 0 {
			continue
		}
		able = append(able, e)
		if o.bad[e] {
			continue
		}
		honest = append(honest, e)
		if out, down := o.client.outage(e); down && (round == 0 || !out.slow) && !e.server {
			continue
		}
		up = append(up, e)
		if q.avoid == nil || !q.avoid(e) {
			best = append(best, e)
		}
	}
	for _, list := range [][]*endpoint{best, up, honest} {
		if len(list) > 0 {
			return list
		}
	}
	return able
}

// summary makes one error of several. The last host, usually the registry's
// server, decides its class. again says whether another round may help.
func summary(what string, failed []failure) (again bool, after time.Duration, _ error) {
	for _, f := range failed {
		if t, ok := errors.AsType[*transient](f.err); ok {
			again, after = true, max(after, t.after)
		}
	}
	last := failed[len(failed)-1]
	if last.e.server && errors.Is(last.err, containerizer.ErrNotFound) {
		again = false
	}
	if len(failed) == 1 {
		return again, after, last.err
	}
	var before []string
	for _, f := range failed[:len(failed)-1] {
		before = append(before, fmt.Sprintf("%s: %s", f.e, strings.TrimPrefix(f.err.Error(), what+": ")))
	}
	return again, after, fmt.Errorf("%w (before that, %s)", last.err, strings.Join(before, "; "))
}
