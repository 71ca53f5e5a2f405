// Package leanjson encodes records as encoding/json does, byte for byte, for
// processes that encode a few and end.
//
// encoding/json prepares an encoder for each type it meets, with tables that pay
// when thousands of values follow. A `berth run` encodes one specification: the
// tables were a tenth of its page faults and of its processor time. Here a value is
// walked by reflection as it is, and whatever is special (methods of its own,
// embedded structs, floating point numbers, unusual tags) is left to encoding/json.
// TestSame compares the two over random values of all types of records.
package leanjson
