/** Tables in pages of docs/, and their places there. */

/** Rows of cells under a head. */
export const table = (head, rows) =>
  [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n')

/** The page with tables in place of those between the markers `<!-- NAME -->` and `<!-- end of NAME -->`. */
export function withMarked(page, path, tables) {
  return Object.entries(tables).reduce((text, [name, content]) => {
    const marked = new RegExp(`(<!-- ${name} -->\n)[^]*?(<!-- end of ${name} -->)`)
    if (!marked.test(text)) throw new Error(`${path} has no place for the table ${name}`)
    return text.replace(marked, (_, begin, end) => `${begin}\n${content}\n\n${end}`)
  }, page)
}
