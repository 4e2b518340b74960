/** The drawings of strategies, as scripts/schemas.mjs writes them. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { overlapsIn } from './overlaps.js'

const docs = join(import.meta.dirname, '../docs')
const drawings = ['strategies', 'images'].flatMap((folder) =>
  readdirSync(join(docs, folder))
    .filter((name) => (folder === 'images' ? /^structures-.*\.svg$/ : /\.svg$/).test(name))
    .map((name) => `${folder}/${name}`),
)
const read = (path: string) => readFileSync(join(docs, path), 'utf8')

describe('the drawings of strategies', () => {
  it.each(drawings)('%s has no label on another, on a line, or outside', (path) => {
    expect(overlapsIn(read(path))).toEqual([])
  })

  it('would be found to have one', () => {
    const lora = read('strategies/lora.svg')
    const [label = ''] = /<text [^>]*>frozen<\/text>/.exec(lora) ?? []
    const x = Number(/x="([\d.]+)"/.exec(label)?.[1])
    const moved = (by: number) => overlapsIn(lora.replace(label, label.replace(/x="[^"]+"/, `x="${x + by}"`)))
    expect(moved(-20)).toEqual([expect.stringMatching(/^"frozen" is crossed at /)])
    expect(moved(-70)).toContain('"trains" overlaps "frozen"')
    expect(moved(1000)).toEqual(['"frozen" leaves the picture'])
  })

  it('shows how Delta-LoRA moves the weight, and what LoRA-drop and QLoRA measure and page', () => {
    const words = (name: string) =>
      [...read(`strategies/${name}.svg`).matchAll(/>([^<]+)<\/text>/g)].map(([, all]) => all)
    expect(words('delta-lora')).toEqual(
      expect.arrayContaining(['Wₜ', 'Wₜ₊₁ =', 'updated, without a gradient']),
    )
    expect(words('delta-lora')).not.toContain('W₀')
    expect(words('lora-drop')).toEqual(expect.arrayContaining(['Σ ‖s B A x‖²', 'own', 'shared']))
    expect(words('qlora')).toEqual(
      expect.arrayContaining(['NF4 codes', '8-bit absmax', 'dequantized', 'pages']),
    )
  })
})
