// Package inflate decompresses gzip streams (RFC 1951, RFC 1952), about twice as
// fast as the libraries: layers are gzip, and decompressing them is most of a pull.
//
// It is a leaf: the standard library, no unsafe code, no assembly. A [Reader] has
// all of its memory (about 250 KiB) from the beginning and allocates nothing while
// it reads, whatever the stream says. It hands decompressed bytes out as they
// are, so what it gave before an error stays unverified; whoever must not see such
// bytes waits for [io.EOF].
//
// What is accepted:
//
//   - One member or more, one after the other; the checksum, the length and, where
//     there is one, the header's checksum of each are compared. A distance never
//     reaches into the member before.
//   - Zeros after the last member, as with gzip(1). Anything else there is an error,
//     as with compress/gzip: a layer's digest covers it, so it is there on purpose.
//   - Names and comments of any length. They are not kept.
//   - Codes that zlib accepts: complete ones, and those with one code or none.
//     Reserved header flags are refused, as RFC 1952 asks.
//   - An empty stream is a truncated one.
//
// How the source is read: in portions of up to 64 KiB, only when all bytes before
// were used, and to its end, even behind the last member; nothing is left for
// another reader. One call of Read may read the source many times before it
// returns. The source's own errors are returned as they are, [io.EOF] within a
// member becomes [io.ErrUnexpectedEOF], and all other faults are a [CorruptError].
//
// How it is fast: tables whose entries stand for up to two literals, or for a
// literal and a match length with its extra bits; a 64-bit buffer of bits that is
// filled eight bytes at a time; copies of 16 bytes that may go beyond their end,
// into a margin of the window. The careful loop (step) takes over where there are
// too few bytes of input for that, and decides by the same tables.
package inflate
