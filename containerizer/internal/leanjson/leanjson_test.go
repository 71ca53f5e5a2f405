package leanjson_test

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/internal/leanjson"
)

// fill gives v random content, with more nil and empty values than random ones. deep
// bounds types that contain themselves.
func fill(r *rand.Rand, v reflect.Value, deep int) {
	if t, ok := reflect.TypeAssert[*time.Time](v.Addr()); ok {
		if r.IntN(2) == 0 {
			*t = time.Unix(r.Int64N(1e10), r.Int64N(1e9)).UTC()
		}
		return
	}
	if raw, ok := reflect.TypeAssert[*json.RawMessage](v.Addr()); ok {
		*raw = json.RawMessage(`{"a":[1,2]}`)
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		if r.IntN(2) == 0 {
			v.SetInt(r.Int64() >> (64 - v.Type().Bits()))
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if r.IntN(2) == 0 {
			v.SetUint(r.Uint64() >> (64 - v.Type().Bits()))
		}
	case reflect.Float32, reflect.Float64:
		v.SetFloat(r.NormFloat64())
	case reflect.String:
		words := []string{"", "a", "debian:12", `quo"ted\`, "<html>&", "\u2028\x00\x7f", "ünï", "\xff\xfe", "KEY=VALUE"}
		v.SetString(words[r.IntN(len(words))])
	case reflect.Pointer:
		if deep > 0 && r.IntN(2) == 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(r, v.Elem(), deep-1)
		}
	case reflect.Slice:
		if n := r.IntN(4) - 1; n >= 0 && deep > 0 {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
			for i := range n {
				fill(r, v.Index(i), deep-1)
			}
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(r, v.Index(i), deep-1)
		}
	case reflect.Map:
		if n := r.IntN(4) - 1; n >= 0 && deep > 0 {
			v.Set(reflect.MakeMap(v.Type()))
			for range n {
				key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
				fill(r, key, deep-1)
				fill(r, value, deep-1)
				v.SetMapIndex(key, value)
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(r, v.Field(i), deep)
			}
		}
	default: // interfaces and functions stay nil
	}
}

type odd struct {
	Embedded
	Plain    string
	Quoted   int `json:",string"`
	Left     int `json:"-"`
	F        float64
	Bytes    []byte
	Numbers  map[int]string
	Any      any
	Pointer  **int         `json:"pointer,omitempty"`
	Duration time.Duration `json:"duration,omitzero"`
	Text     text          `json:"text"`
	TextP    *text         `json:"textP,omitempty"`
	Texts    []text        `json:"texts"`
}

// Embedded is promoted.
type Embedded struct{ Inner int }

// text has a method of its pointer only.
type text struct{ S string }

func (t *text) MarshalText() ([]byte, error) { return []byte("<" + t.S + ">"), nil }

type record struct {
	At    time.Time       `json:"at,omitzero"`
	Raw   json.RawMessage `json:"raw"`
	Empty struct{}        `json:"empty"`
}

func TestSame(t *testing.T) {
	for _, kind := range []reflect.Type{
		reflect.TypeFor[containerizer.Spec](),
		reflect.TypeFor[containerizer.LaunchInfo](),
		reflect.TypeFor[containerizer.Termination](),
		reflect.TypeFor[containerizer.Event](),
		reflect.TypeFor[containerizer.Usage](),
		reflect.TypeFor[containerizer.Resources](),
		reflect.TypeFor[containerizer.Status](),
		reflect.TypeFor[odd](),
		reflect.TypeFor[record](),
		reflect.TypeFor[[3]string](),
		reflect.TypeFor[map[string]string](),
	} {
		t.Run(kind.String(), func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			for range 300 {
				p := reflect.New(kind)
				fill(r, p.Elem(), 6)
				for _, v := range []any{p.Interface(), p.Elem().Interface()} {
					want, wantErr := json.Marshal(v)
					got, err := leanjson.Marshal(v)
					if (err != nil) != (wantErr != nil) || err == nil && string(got) != string(want) {
						t.Fatalf("got  %s (%v)\nwant %s (%v)", got, err, want, wantErr)
					}
				}
			}
		})
	}
}

func TestErrors(t *testing.T) {
	if _, err := leanjson.Marshal(struct{ C chan int }{}); err == nil {
		t.Error("a channel was encoded")
	}
	for _, v := range []any{nil, (*int)(nil), json.RawMessage(nil), []any{nil, 1, "a"}} {
		want, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := leanjson.Marshal(v); err != nil || string(got) != string(want) {
			t.Errorf("Marshal(%#v) = %s, %v, want %s", v, got, err, want)
		}
	}
}
