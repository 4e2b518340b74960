/** The recipe's messages as a spreadsheet program saves them: Windows-1252, semicolons, and labels typed by hand. */

const CUSTOMERS = ['Günther Groß', 'Jörg Schäfer', 'Käthe “Kat” Weiß', 'Jürgen Müller', 'Änne Öhler']
const TYPED = [
  (label) => label,
  (label) => `${label} `,
  (label) => label[0].toUpperCase() + label.slice(1),
  (label) => label,
]
/** Characters of Windows-1252 whose bytes are not those of Latin-1. */
const OTHERS = new Map([
  ['€', 0x80],
  ['“', 0x93],
  ['”', 0x94],
  ['’', 0x92],
])

/** @param csv the recipe's messages.csv */
export function spreadsheet(csv) {
  const [, ...lines] = csv.trim().split('\n')
  const rows = lines.map((line, i) => {
    const [, message, topic] = /^"?(.*?)"?,(\w+)$/.exec(line)
    const price = `${12 + ((i * 7) % 40)} €`
    return [
      CUSTOMERS[i % CUSTOMERS.length],
      price,
      message.replaceAll("'", '’'),
      TYPED[i % TYPED.length](topic),
    ]
  })
  const text = [['customer', 'price', 'message', 'topic'], ...rows].map((row) => row.join(';')).join('\r\n')
  return windows1252(`${text}\r\n`)
}

/** @param text of characters that Windows-1252 has */
export function windows1252(text) {
  return Buffer.from([...text].map((character) => OTHERS.get(character) ?? character.charCodeAt(0)))
}
