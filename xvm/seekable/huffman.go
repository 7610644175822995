package seekable

import "math/bits"

// Decoding tables of deflate's prefix codes, two levels deep. A table is indexed by the next bits of the input; an
// entry tells what the code stands for and how many bits to drop. Codes longer than the first level continue in a
// second-level table that the first-level entry names.
//
//	bits 0-7    bits to drop: the code and its extra bits (second level: without the first level's bits)
//	bits 8-11   bits of the code alone; in a link: index bits of the second-level table
//	bits 12-15  flags
//	bits 16-30  literal, base of the length or distance, or start of the second-level table
//	bit  31     literal
const (
	entryLiteral = 1 << 31
	entrySpecial = 1 << 15 // link, end of block, or no code at all
	entryLink    = 1 << 14
	entryEnd     = 1 << 13 // neither link nor end: no such code

	litBits   = 11
	distBits  = 8
	preBits   = 7
	litSpace  = 4096 // a power of two above the most that 288 codes of at most 15 bits need behind 11 bits (2342)
	distSpace = 512  // the same for 32 codes behind 8 bits (402)
	preSpace  = 128
)

// Symbol tables: entries without their code lengths, with the number of extra bits in bits 0-7.
type symbols struct {
	lit  [288]uint32
	dist [32]uint32
	pre  [19]uint32
}

// makeSymbols builds them by RFC 1951, section 3.2.5.
func makeSymbols() *symbols {
	s := new(symbols)
	for i := range 256 {
		s.lit[i] = entryLiteral | uint32(i)<<16
	}
	s.lit[256] = entrySpecial | entryEnd
	base := uint32(3)
	for i := 257; i < 285; i++ {
		extra := uint32(0)
		if i >= 265 {
			extra = uint32(i-261) / 4
		}
		s.lit[i] = base<<16 | extra
		base += 1 << extra
	}
	s.lit[285] = 258 << 16
	s.lit[286], s.lit[287] = entrySpecial, entrySpecial
	base = 1
	for i := range 30 {
		extra := uint32(0)
		if i >= 4 {
			extra = uint32(i-2) / 2
		}
		s.dist[i] = base<<16 | extra
		base += 1 << extra
	}
	s.dist[30], s.dist[31] = entrySpecial, entrySpecial
	for i := range s.pre {
		s.pre[i] = uint32(i) << 16
	}
	return s
}

// symbolTable is a compiled table.
var symbolTable = makeSymbols()

// buildTable fills table, whose first level has 1<<root entries, for the canonical code with these lengths (0 to 15).
// It is false for lengths that make no complete code. One code of length 1 and no code at all count as complete, as
// in zlib; using what is missing is then an error of the data.
func buildTable(table []uint32, root uint, lengths []uint8, syms []uint32) bool {
	var count [16]int
	for _, l := range lengths {
		count[l]++
	}
	count[0] = 0
	longest, left, total := uint(0), 1, 0
	for l := 1; l < 16; l++ {
		left = left<<1 - count[l]
		if left < 0 {
			return false
		}
		if count[l] > 0 {
			longest = uint(l)
		}
		total += count[l]
	}
	if left > 0 {
		if total > 1 || longest > 1 {
			return false
		}
		for i := range table[:1<<root] {
			table[i] = entrySpecial
		}
	}
	var offset [17]int
	for l := 1; l < 16; l++ {
		offset[l+1] = offset[l] + count[l]
	}
	var sorted [288]uint16
	for sym, l := range lengths {
		if l != 0 {
			sorted[offset[l]] = uint16(sym)
			offset[l]++
		}
	}
	code, next := uint32(0), 1<<root
	sub, subBits, prefix := 0, uint(0), uint32(1)<<31
	i := 0
	for l := uint(1); l <= longest; l++ {
		for n := count[l]; n > 0; n-- {
			sym := syms[sorted[i]]
			i++
			rev := uint32(bits.Reverse16(uint16(code))) >> (16 - l)
			if l <= root {
				e := sym + uint32(l)<<8 + uint32(l)
				for k := rev; k < 1<<root; k += 1 << l {
					table[k] = e
				}
			} else {
				if low := rev & (1<<root - 1); low != prefix {
					// A new second-level table, wide enough for all codes that share these first bits.
					prefix, sub, subBits = low, next, l-root
					for room := 1<<subBits - n; subBits+root < longest && room > 0; {
						subBits++
						room = room<<1 - count[subBits+root]
					}
					next += 1 << subBits
					table[low] = entrySpecial | entryLink | uint32(sub)<<16 | uint32(subBits)<<8 | uint32(root)
				}
				e := sym + uint32(l-root)<<8 + uint32(l-root)
				for k := rev >> root; k < 1<<subBits; k += 1 << (l - root) {
					table[sub+int(k)] = e
				}
			}
			code++
		}
		code <<= 1
	}
	return true
}
