package recordio_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/recordio"
)

func TestReader(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		in   string
		want []string
		end  error
	}{
		"nothing":             {"", nil, io.EOF},
		"one":                 {"5\nhello", []string{"hello"}, io.EOF},
		"empty":               {"0\n", []string{""}, io.EOF},
		"leading zeros":       {"005\nhello", []string{"hello"}, io.EOF},
		"several":             {"1\na0\n2\nbc", []string{"a", "", "bc"}, io.EOF},
		"line feed in it":     {"3\na\nb", []string{"a\nb"}, io.EOF},
		"no length":           {"\nhello", nil, containerizer.ErrInvalid},
		"negative":            {"-1\nhello", nil, containerizer.ErrInvalid},
		"sign":                {"+1\nhello", nil, containerizer.ErrInvalid},
		"blank":               {" 1\na", nil, containerizer.ErrInvalid},
		"carriage return":     {"1\r\na", nil, containerizer.ErrInvalid},
		"hexadecimal":         {"0x1\na", nil, containerizer.ErrInvalid},
		"JSON":                {`{"type":1}`, nil, containerizer.ErrInvalid},
		"more than 32 bits":   {"4294967296\na", nil, containerizer.ErrInvalid},
		"digits without end":  {strings.Repeat("1", 100), nil, containerizer.ErrInvalid},
		"too long":            {"101\n", nil, containerizer.ErrResourceExhausted},
		"cut off in length":   {"1\na1", []string{"a"}, io.ErrUnexpectedEOF},
		"cut off in a record": {"5\nhell", nil, io.ErrUnexpectedEOF},
		"cut off before it":   {"5\n", nil, io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for how, in := range map[string]io.Reader{"whole": strings.NewReader(c.in), "by bytes": iotest.OneByteReader(strings.NewReader(c.in))} {
				r := recordio.NewReader(in, 100)
				var got []string
				var err error
				for {
					var record []byte
					if record, err = r.Next(); err != nil {
						break
					}
					got = append(got, string(record))
				}
				if !errors.Is(err, c.end) || strings.Join(got, "|") != strings.Join(c.want, "|") || len(got) != len(c.want) {
					t.Errorf("%s: got %q, %v; want %q, %v", how, got, err, c.want, c.end)
				}
			}
		})
	}
}

func FuzzReader(f *testing.F) {
	for _, s := range []string{"", "5\nhello", "0\n0\n", "-1\n", "99999999999\n", "3\nab"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r := recordio.NewReader(bytes.NewReader(in), 1<<16)
		var again []byte
		for {
			record, err := r.Next()
			if err != nil {
				break
			}
			again = recordio.Append(again, record)
		}
		if len(again) > len(in) {
			t.Errorf("%q has the records of %q", in, again)
		}
		// What was read is written in a form that reads the same.
		second := recordio.NewReader(bytes.NewReader(again), 1<<16)
		var third []byte
		for {
			record, err := second.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%q: %v", again, err)
			}
			third = recordio.Append(third, record)
		}
		if !bytes.Equal(again, third) {
			t.Errorf("%q became %q", again, third)
		}
	})
}
