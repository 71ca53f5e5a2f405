package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// containerName is unique within a run of the benchmark.
func containerName(what string, i int) string { return fmt.Sprintf("bench-%s-%d", what, i) }

// once measures one contender once.
type once func(name string, round int) (wall, cpu time.Duration, err error)

// interleave lets each contender run in turn, rounds times, with gap before each one,
// and returns a sample of each. The first round warms up and does not count.
func interleave(ctx context.Context, names []string, do once, rounds int, gap time.Duration) (map[string]*sample, error) {
	samples := map[string]*sample{}
	for round := range rounds + 1 {
		for _, name := range names {
			wait(ctx, gap)
			wall, cpu, err := do(name, round)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			if round == 0 {
				samples[name] = &sample{}
				continue
			}
			samples[name].add(wall, cpu)
		}
	}
	return samples, nil
}

// inProcess is berth's engine in a process that stays, beside the commands.
const inProcess = "berth, in process"

// launch measures launch-to-exit of every contender.
func (b *bench) launch(ctx context.Context, regime string, rounds int, gap time.Duration) (_ map[string]*sample, err error) {
	names := []string{bare}
	byName := map[string]contender{}
	var e *engine
	if slices.Contains(b.peers, "berth") {
		if e, err = startEngine(ctx, b.bin, filepath.Join(b.dir, "engine"), filepath.Join(b.state, "engine"), b.rootfs); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, e.stop()) }()
		names = append(names, inProcess)
	}
	for _, c := range b.contenders {
		names = append(names, c.Name())
		byName[c.Name()] = c
	}
	return interleave(ctx, names, func(name string, round int) (wall, cpu time.Duration, err error) {
		switch name {
		case bare:
			return measure(ctx, []string{b.payload, "true"})
		case inProcess:
			return e.launch(containerName(regime, round))
		}
		return measure(ctx, byName[name].Run(containerName(regime, round)))
	}, rounds, gap)
}

// exec measures the exec command into one running container of every contender.
func (b *bench) exec(ctx context.Context, rounds int, gap time.Duration) (samples map[string]*sample, err error) {
	const id = "bench-exec"
	byName := map[string]contender{}
	var names []string
	for _, c := range b.contenders {
		if err := c.Start(ctx, id); err != nil {
			return nil, fmt.Errorf("%s: %w", c.Name(), err)
		}
		defer func() {
			if failed := c.Stop(context.WithoutCancel(ctx), id); err == nil {
				err = failed
			}
		}()
		names = append(names, c.Name())
		byName[c.Name()] = c
	}
	return interleave(ctx, names, func(name string, _ int) (wall, cpu time.Duration, err error) {
		return measure(ctx, byName[name].Exec(id))
	}, rounds, gap)
}

// throughput runs containers with a number of workers for a while, in turns, and
// returns containers a second.
func (b *bench) throughput(ctx context.Context, workers, turns int, turn time.Duration) (map[string]float64, error) {
	counts, spent := map[string]int64{}, map[string]time.Duration{}
	for n := range turns {
		for _, c := range b.contenders {
			count, took, err := crowd(ctx, c, workers, n, turn)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.Name(), err)
			}
			counts[c.Name()] += count
			spent[c.Name()] += took
		}
	}
	rates := map[string]float64{}
	for name, count := range counts {
		rates[name] = float64(count) / spent[name].Seconds()
	}
	return rates, nil
}

// crowd is one turn of one contender.
func crowd(ctx context.Context, c contender, workers, n int, turn time.Duration) (int64, time.Duration, error) {
	var (
		count  atomic.Int64
		group  sync.WaitGroup
		failed = make(chan error, workers)
		start  = time.Now()
	)
	for w := range workers {
		group.Go(func() {
			for i := 0; time.Since(start) < turn && ctx.Err() == nil; i++ {
				id := fmt.Sprintf("bench-crowd-%d-%d-%d", n, w, i)
				if _, _, err := measure(ctx, c.Run(id)); err != nil {
					failed <- err
					return
				}
				count.Add(1)
			}
		})
	}
	group.Wait()
	select {
	case err := <-failed:
		return 0, 0, err
	default:
		return count.Load(), time.Since(start), nil
	}
}
