/** Texts of generated sources: names of both languages, and comments. */

/** `camelCase` as `snake_case`. */
export function snake(name) {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
}

/** A documentation comment of TypeScript. */
export function documented(about, indent = '') {
  if (about.length < 100) return `${indent}/** ${about} */`
  return `${indent}/**\n${wrapped(about, `${indent} * `, 110)}\n${indent} */`
}

/** A text in lines that begin with `prefix` and are at most `width` long. */
export function wrapped(text, prefix, width) {
  const lines = ['']
  for (const word of text.split(' ')) {
    const line = lines.at(-1)
    if (line !== '' && prefix.length + line.length + 1 + word.length > width) lines.push(word)
    else lines[lines.length - 1] = line === '' ? word : `${line} ${word}`
  }
  return lines.map((line) => prefix + line).join('\n')
}
