/** How Windows reads a command line: PowerShell 7.3 or newer, cmd.exe, and the C runtime that makes arguments of its text. */

const STRAIGHT = "'\u2018\u2019\u201a\u201b"
const DOUBLE = '"\u201c\u201d\u201e'
/** Outside quotes these end a word, or mean something, somewhere in it or at its start. */
const SPECIAL = /[\s(){};&|<>,`$@#]/

/** Words of a PowerShell command, as programs get them (about_Parsing, about_Quoting_Rules). */
export function powershellWords(line: string): string[] {
  const words: string[] = []
  for (let at = 0; at < line.length; ) {
    if (line[at] === ' ') {
      at++
      continue
    }
    let word = ''
    const quote = line[at] as string
    const same = STRAIGHT.includes(quote) ? STRAIGHT : DOUBLE.includes(quote) ? DOUBLE : undefined
    if (same === undefined) {
      while (at < line.length && line[at] !== ' ') word += line[at++]
      if (SPECIAL.test(word) || [...word].some((c) => (STRAIGHT + DOUBLE).includes(c)))
        throw new Error(`a bare word with a special character: ${word}`)
      if (/^-.*[.:]/.test(word)) throw new Error(`PowerShell splits ${word}`)
    } else {
      for (at++; ; at++) {
        const c = line[at]
        if (c === undefined) throw new Error(`a quote does not end: ${line}`)
        if (same.includes(c)) {
          if (!same.includes(line[at + 1] ?? ' ')) break
          at++
          word += c
        } else if (same === DOUBLE && /[`$]/.test(c)) throw new Error(`PowerShell expands ${c} in ${line}`)
        else word += c
      }
      at++
      if (line[at] !== undefined && line[at] !== ' ')
        throw new Error(`a word goes on after its quote: ${line}`)
    }
    words.push(word)
  }
  return words
}

/** Words of a line typed at the prompt of cmd.exe. */
export function cmdWords(line: string): string[] {
  let quoted = false
  for (const c of line) {
    if (c === '"') quoted = !quoted
    else if (!quoted && /[&|<>^()]/.test(c)) throw new Error(`cmd.exe reads ${c} in ${line}`)
  }
  const [variable] = /%[^%]+%/.exec(line) ?? []
  if (variable) throw new Error(`cmd.exe may replace ${variable}`)
  return runtimeWords(line)
}

/** Arguments of a command line (Parsing C command-line arguments). */
function runtimeWords(line: string): string[] {
  const words: string[] = []
  for (let at = 0; at < line.length; ) {
    if (/[ \t]/.test(line[at] as string)) {
      at++
      continue
    }
    let word = ''
    let quoted = false
    for (; at < line.length && (quoted || !/[ \t]/.test(line[at] as string)); ) {
      const [slashes = ''] = /^\\*/.exec(line.slice(at)) ?? []
      at += slashes.length
      if (line[at] !== '"') {
        word += slashes
        if (slashes === '') word += line[at++]
        continue
      }
      word += '\\'.repeat(slashes.length >> 1)
      if (slashes.length % 2 === 1) {
        word += '"'
        at++
      } else if (quoted && line[at + 1] === '"') {
        word += '"'
        at += 2
      } else {
        quoted = !quoted
        at++
      }
    }
    words.push(word)
  }
  return words
}
