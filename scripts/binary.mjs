import { createHash } from 'node:crypto'

/**
 * Reads what a shared library asks of a system and gives it, from the three formats that addons come in: ELF, PE and
 * Mach-O, each for 64 bits. Only what is read at loading time, so that a stripped file says it all.
 *
 *   format     'ELF', 'PE' or 'Mach-O'
 *   processor  'x86_64' or 'arm64'
 *   libraries  names of the libraries that are loaded with it
 *   delayed    those that are loaded at the first call into them (PE)
 *   imports    names that other files have to have: `{ name, library? , version? }`, version as 'GLIBC_2.28' (ELF)
 *   exports    names that it has for others
 *   versions   of symbols needed, per library (ELF): 'GLIBC_2.28' and the like
 *   signed     whether it carries a signature, and its digests are those of the file (Mach-O)
 *   macos      oldest system that it is made for (Mach-O)
 *   locals     names that serve a debugger only (Mach-O)
 */
export function readBinary(bytes) {
  const magic = bytes.readUInt32BE(0)
  if (magic === 0x7f454c46) return readElf(bytes)
  if (magic >>> 16 === 0x4d5a) return readPe(bytes)
  if (magic === 0xcffaedfe) return readMachO(bytes)
  throw new Error('it is neither ELF, PE nor Mach-O for 64 bits')
}

const word = (bytes, at) => Number(bytes.readBigUInt64LE(at))

function text(bytes, at) {
  return bytes.toString('utf8', at, bytes.indexOf(0, at))
}

/** System V ABI, gABI 4.1, with the symbol versions of the Linux Standard Base. */
function readElf(bytes) {
  const processor = { 62: 'x86_64', 183: 'arm64' }[bytes.readUInt16LE(18)]
  const segments = records(word(bytes, 32), bytes.readUInt16LE(56), bytes.readUInt16LE(54))
  const loaded = segments.filter((at) => bytes.readUInt32LE(at) === 1)
  /** Place in the file of an address in memory. */
  const place = (address) => {
    const at = loaded.find(
      (s) => address >= word(bytes, s + 16) && address < word(bytes, s + 16) + word(bytes, s + 32),
    )
    if (at === undefined) throw new Error(`no segment has the address ${address}`)
    return address - word(bytes, at + 16) + word(bytes, at + 8)
  }
  const dynamic = segments.find((at) => bytes.readUInt32LE(at) === 2)
  if (dynamic === undefined) throw new Error('it is no dynamic library')
  const entries = []
  for (let at = word(bytes, dynamic + 8); word(bytes, at) !== 0; at += 16)
    entries.push([word(bytes, at), word(bytes, at + 8)])
  const entry = (tag) => entries.find(([own]) => own === tag)?.[1]
  const strings = place(entry(5))
  const sections = records(word(bytes, 40), bytes.readUInt16LE(60), bytes.readUInt16LE(58))
  const symbols = sections.find((at) => bytes.readUInt32LE(at + 4) === 11)
  const names = new Map(versionNames(bytes, place, strings, entry(0x6ffffffe), entry(0x6fffffff)))
  const table = entry(0x6ffffff0) && place(entry(0x6ffffff0))
  const imports = []
  const exports = []
  records(word(bytes, symbols + 24), word(bytes, symbols + 32) / 24, 24).forEach((at, index) => {
    if (index === 0) return
    const name = text(bytes, strings + bytes.readUInt32LE(at))
    const version =
      table === undefined ? undefined : names.get(bytes.readUInt16LE(table + 2 * index) & 0x7fff)
    if (bytes.readUInt16LE(at + 6) === 0) imports.push({ name, version })
    else if (bytes[at + 4] >> 4 !== 0) exports.push(name)
  })
  const libraries = entries.filter(([tag]) => tag === 1).map(([, offset]) => text(bytes, strings + offset))
  return { format: 'ELF', processor, libraries, delayed: [], imports, exports, versions: [...names.values()] }
}

/** Index of a symbol version -> its name, of those that are needed. */
function* versionNames(bytes, place, strings, address, count) {
  if (address === undefined) return
  for (let at = place(address), i = 0; i < count; ++i, at += bytes.readUInt32LE(at + 12))
    for (let own = at + bytes.readUInt32LE(at + 8), j = 0; j < bytes.readUInt16LE(at + 2); ++j) {
      yield [bytes.readUInt16LE(own + 6), text(bytes, strings + bytes.readUInt32LE(own + 8))]
      own += bytes.readUInt32LE(own + 12)
    }
}

/** Microsoft's "PE Format". */
function readPe(bytes) {
  const header = bytes.readUInt32LE(0x3c)
  const processor = { 34404: 'x86_64', 43620: 'arm64' }[bytes.readUInt16LE(header + 4)]
  const optional = header + 24
  if (bytes.readUInt16LE(optional) !== 0x20b) throw new Error('it is PE for 32 bits')
  const sections = records(optional + bytes.readUInt16LE(header + 20), bytes.readUInt16LE(header + 6), 40)
  const sectionOf = (address) =>
    sections.find((s) => {
      const begin = bytes.readUInt32LE(s + 12)
      return address >= begin && address < begin + bytes.readUInt32LE(s + 16)
    })
  const inside = (address) => sectionOf(address) !== undefined
  const place = (address) => {
    const at = sectionOf(address)
    if (at === undefined) throw new Error(`no section has the address ${address}`)
    return address - bytes.readUInt32LE(at + 12) + bytes.readUInt32LE(at + 20)
  }
  const directory = (index) => bytes.readUInt32LE(optional + 112 + 8 * index)
  const imports = []
  const libraries = []
  const delayed = []
  const read = (list, more, size, nameAt, thunksAt, out) => {
    for (let at = list; more(at); at += size) {
      const library = text(bytes, place(bytes.readUInt32LE(at + nameAt)))
      out.push(library)
      for (
        let thunk = place(bytes.readUInt32LE(at + thunksAt));
        bytes.readBigUInt64LE(thunk) !== 0n;
        thunk += 8
      ) {
        const value = bytes.readBigUInt64LE(thunk)
        const name =
          value >> 63n ? `#${value & 0xffffn}` : text(bytes, place(Number(value & 0x7fffffffn)) + 2)
        imports.push({ name, library })
      }
    }
  }
  if (directory(1) !== 0)
    read(place(directory(1)), (at) => bytes.readUInt32LE(at + 12) !== 0, 20, 12, 0, libraries)
  // GNU's linker leaves the directory of delayed libraries out of the header: it is the place whose entry, of version 1,
  // names a library.
  const namesLibrary = (at) => {
    const name = bytes.readUInt32LE(at + 4)
    return (
      bytes.readUInt32LE(at) === 1 && inside(name) && /^[\w.-]+\.(dll|exe)$/i.test(text(bytes, place(name)))
    )
  }
  const places = directory(13)
    ? [place(directory(13))]
    : sections.flatMap((s) => records(bytes.readUInt32LE(s + 20), bytes.readUInt32LE(s + 16) / 4 - 8, 4))
  const begin = places.find(namesLibrary)
  if (begin !== undefined) read(begin, namesLibrary, 32, 4, 16, delayed)
  const exports = []
  if (directory(0) !== 0) {
    const at = place(directory(0))
    const names = place(bytes.readUInt32LE(at + 32))
    for (let i = 0; i < bytes.readUInt32LE(at + 24); ++i)
      exports.push(text(bytes, place(bytes.readUInt32LE(names + 4 * i))))
  }
  return { format: 'PE', processor, libraries, delayed, imports, exports }
}

/** <mach-o/loader.h> and <mach-o/nlist.h>. */
function readMachO(bytes) {
  const processor = { 16777223: 'x86_64', 16777228: 'arm64' }[bytes.readUInt32LE(4)]
  const libraries = []
  const imports = []
  const exports = []
  const locals = []
  let signed = false
  let macos
  for (let at = 32, i = 0; i < bytes.readUInt32LE(16); ++i, at += bytes.readUInt32LE(at + 4)) {
    const command = bytes.readUInt32LE(at)
    if (command === 0xc || command === 0x80000018 || command === 0x8000001f)
      libraries.push(text(bytes, at + bytes.readUInt32LE(at + 8)))
    if (command === 0x1d) signed = signatureHolds(bytes, bytes.readUInt32LE(at + 8))
    if (command === 0x32) macos = `${bytes.readUInt16LE(at + 14)}.${bytes[at + 13]}`
    if (command !== 2) continue
    const strings = bytes.readUInt32LE(at + 16)
    for (const symbol of records(bytes.readUInt32LE(at + 8), bytes.readUInt32LE(at + 12), 16)) {
      const type = bytes[symbol + 4]
      const name = text(bytes, strings + bytes.readUInt32LE(symbol)).replace(/^_/, '')
      if (type & 0xe0 || !(type & 1)) locals.push(name)
      else if ((type & 0x0e) === 0) imports.push({ name })
      else if (!(type & 0x10)) exports.push(name)
    }
  }
  return { format: 'Mach-O', processor, libraries, delayed: [], imports, exports, signed, macos, locals }
}

/** <Kernel/kern/cs_blobs.h>: whether the first code directory has the SHA-256 digest of every page before the signature. */
function signatureHolds(bytes, signature) {
  const directory = signature + bytes.readUInt32BE(signature + 16)
  const digests = directory + bytes.readUInt32BE(directory + 16)
  const end = bytes.readUInt32BE(directory + 32)
  const page = 1 << bytes[directory + 39]
  const pages = records(0, bytes.readUInt32BE(directory + 28), page)
  const right = (begin, index) => {
    const digest = createHash('sha256')
      .update(bytes.subarray(begin, Math.min(begin + page, end)))
      .digest()
    return digest.equals(bytes.subarray(digests + 32 * index, digests + 32 * index + 32))
  }
  return end === signature && pages.length === Math.ceil(end / page) && pages.every(right)
}

/** Places of `count` records of one size. */
function records(begin, count, size) {
  return Array.from({ length: count }, (_, i) => begin + i * size)
}
