/**
 * The documentation against the code: keys, defaults, variables, verbs, flags and exports that exist are documented,
 * what is documented exists, links lead somewhere, and the examples are valid.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import * as api from '../lib/index.js'
import { resolveConfig } from '../lib/train/config/config.js'
import { configJsonSchema } from '../lib/train/config/config-schema.js'
import { withAdditions } from '../scripts/additions.mjs'
import { withFigures } from '../scripts/readme.mjs'
import { published } from './lib/cli/contract.js'
import { lowrank } from './lib/cli/lowrank.js'
import { guides } from './pages.js'

const root = fileURLToPath(new URL('..', import.meta.url))
const read = (path: string) => readFileSync(join(root, path), 'utf8')
const pages = ['README.md', 'CHANGELOG.md', 'CONTRIBUTING.md', ...guides]

interface Block {
  page: string
  language: string
  text: string
}

const blocks: Block[] = pages.flatMap((page) =>
  [...read(page).matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm)].map(([, language = '', text = '']) => ({
    page,
    language,
    text,
  })),
)
const ofLanguage = (...languages: string[]) => blocks.filter(({ language }) => languages.includes(language))

/** The cells of every table row whose first cell is one word of code. */
function rowsByKey(text: string): Map<string, string[][]> {
  const rows = new Map<string, string[][]>()
  for (const [, key = '', rest = ''] of text.matchAll(/^\| `([^`]+)` \|(.*)\|$/gm))
    rows.set(key, [...(rows.get(key) ?? []), rest.split('|').map((cell) => cell.trim())])
  return rows
}

type Schema = { [key: string]: unknown }

/** Every property of a JSON schema: its key and its own schema. */
function* properties(schema: unknown): Generator<[string, Schema]> {
  if (Array.isArray(schema)) for (const item of schema) yield* properties(item)
  if (typeof schema !== 'object' || schema === null) return
  for (const [key, value] of Object.entries(schema)) {
    if (key === 'properties') yield* Object.entries(value as { [key: string]: Schema })
    if (key !== 'default') yield* properties(value)
  }
}

function filesUnder(folder: string): string[] {
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = `${folder}/${entry.name}`
    return entry.isDirectory() ? filesUnder(path) : [path]
  })
}

describe('docs/config.md', () => {
  const rows = rowsByKey(read('docs/config.md'))
  const keys = [...properties(configJsonSchema())]

  it('has a row for every key of a config', () => {
    expect(keys.length).toBeGreaterThan(40)
    const missing = new Set(keys.map(([key]) => key).filter((key) => !rows.has(key)))
    expect([...missing]).toEqual([])
  })

  it('has no row for a key that does not exist', () => {
    const known = new Set(keys.map(([key]) => key))
    expect([...rows.keys()].filter((key) => !known.has(key))).toEqual([])
  })

  it('names the default of every key', () => {
    const wrong = keys.flatMap(([key, { default: value }]) => {
      if (value === undefined) return []
      const named = rows.get(key)?.flat() ?? []
      return named.some((cell) => /^`[^`]+`$/.test(cell) && sameValue(parse(cell.replaceAll('`', '')), value))
        ? []
        : [`${key}: ${JSON.stringify(value)}`]
    })
    expect(wrong).toEqual([])
  })
})

function sameValue(a: unknown, b: unknown): boolean {
  // YAML reads 1e-8 as a number or as text, as its version has it.
  return JSON.stringify(a) === JSON.stringify(b) || (typeof b === 'number' && Number(a) === b)
}

describe('what is generated', () => {
  it('is up to date (npm run build:schemas)', () => {
    const check = [join(root, 'scripts/schemas.mjs'), '--check']
    expect(() => execFileSync(process.execPath, check, { encoding: 'utf8' })).not.toThrow()
  })
})

describe('what is counted or measured', () => {
  it('in README.md, is what was recorded (node scripts/readme.mjs)', () => {
    expect(withFigures(read('README.md'))).toBe(read('README.md'))
  })

  it('in CONTRIBUTING.md, is what the sources have (node scripts/additions.mjs)', () => {
    expect(withAdditions(read('CONTRIBUTING.md'))).toBe(read('CONTRIBUTING.md'))
  })

  it('as operations of a graph, are those that there are', () => {
    const [, rows = ''] = /^\| operation \|.*\n\| --- .*\n((?:\|.*\n)+)/m.exec(read('docs/concepts.md')) ?? []
    const named = [...rows.matchAll(/^\| (`.*?`) \|/gm)].flatMap(([, cell = '']) => cell.match(/[a-z_]+/g))
    const stated = [...read('lib/graph/nodes.ts').matchAll(/\bop: '(\w+)'/g)].map(([, name]) => name)
    expect(named.sort()).toEqual(stated.sort())
  })

  it('by files that CONTRIBUTING.md names, are there', () => {
    const named = [
      ...read('CONTRIBUTING.md').matchAll(/`((?:lib|native|test|scripts|docs|benchmarks)\/[\w./-]+)`/g),
    ]
    const files = named.map(([, path = '']) => path).filter((path) => !/^docs\/api/.test(path))
    expect(files.length).toBeGreaterThan(20)
    expect(files.filter((path) => !existsSync(join(root, path)))).toEqual([])
  })
})

describe('what is known of platforms', () => {
  it('is what checks saw (npm run build:platforms)', () => {
    const check = [join(root, 'scripts/platform-tables.mjs'), '--check']
    expect(() => execFileSync(process.execPath, check, { encoding: 'utf8' })).not.toThrow()
  })

  it('is the same in README.md as in docs/install.md', () => {
    const knownIn = (page: string) => {
      const [, table = ''] = /<!-- platforms -->([\s\S]*?)<!-- end of platforms -->/.exec(read(page)) ?? []
      const rows = table
        .trim()
        .split('\n')
        .slice(2)
        .map((row) => row.split('|').map((cell) => cell.trim()))
      // The short page has the words before the colon.
      return rows.map((cells) => [cells[1], cells.at(-2)?.split(':')[0]])
    }
    expect(knownIn('README.md').length).toBeGreaterThan(6)
    expect(knownIn('README.md')).toEqual(knownIn('docs/install.md'))
  })
})

describe('docs/environment.md', () => {
  const documented = new Set(read('docs/environment.md').match(/LOWRANK_[A-Z]+(?:_[A-Z]+)*/g))
  /** As they are read: `process.env.NAME`, `getenv("NAME")`. */
  const readIn = (folders: string[]) =>
    new Set(
      folders
        .flatMap(filesUnder)
        .filter((path) => /\.(ts|mjs|cjs|cts|cpp|h|inl)$/.test(path))
        .flatMap((path) => [
          ...read(path).matchAll(/(?:env\.|getenv\("|environment\("|env\[')(LOWRANK_[A-Z_]+)/g),
        ])
        .map(([, name]) => name as string),
    )

  it('has every variable that the code reads', () => {
    const found = [...readIn(['lib', 'native', 'scripts'])]
    expect(found.length).toBeGreaterThan(5)
    expect(found.filter((name) => !documented.has(name))).toEqual([])
  })

  it('has no variable that nothing reads', () => {
    const found = readIn(['lib', 'native', 'scripts', 'test'])
    expect([...documented].filter((name) => !found.has(name))).toEqual([])
  })
})

describe('commands', () => {
  const verbs: string[] = []
  const help = new Map<string, string>()
  beforeAll(async () => {
    const text = async (...args: string[]) => (await lowrank(args)).stdout
    for (const [, verb = ''] of (await text('--help')).matchAll(/^ {2}([a-z]+) \[options\]/gm))
      verbs.push(verb)
    await Promise.all(verbs.map(async (verb) => help.set(verb, await text(verb, '--help'))))
  })
  const flagsOf = (verb: string) =>
    [...(help.get(verb) ?? '').matchAll(/^ {2}(?:-\w, )?((?:--[\w-]+(?:, )?)+)/gm)].flatMap(
      ([, flags = '']) => flags.split(', '),
    )
  const sections = new Map(
    read('docs/cli.md')
      .split(/^## /m)
      .map((section) => [section.slice(0, section.indexOf('\n')), section]),
  )

  it('are all on their page, each with its flags', () => {
    expect(verbs.length).toBeGreaterThan(2)
    for (const verb of verbs) {
      const section = sections.get(verb)
      expect(section, verb).toBeDefined()
      // Those that every verb has are explained once.
      const own = flagsOf(verb).filter((flag) => !['--help', '--json'].includes(flag))
      expect(own.filter((flag) => !new RegExp(`\`${flag}[\` ]`).test(section as string))).toEqual([])
    }
  })

  it('each have a published schema of what they print', () => {
    expect(verbs.filter((verb) => !published.includes(verb))).toEqual([])
  })

  it('have no flag on their page that does not exist', () => {
    for (const verb of verbs) {
      const flags = new Set(flagsOf(verb))
      const named = [...(sections.get(verb) ?? '').matchAll(/^\| (.*?) \|/gm)].flatMap(
        ([, cell = '']) => cell.match(/--[a-z][\w-]*/g) ?? [],
      )
      expect(
        named.filter((flag) => !flags.has(flag)),
        verb,
      ).toEqual([])
    }
  })

  it('that are shown exist, with the flags that are shown', () => {
    const lines = ofLanguage('sh').flatMap(({ page, text }) =>
      [...text.matchAll(/^npx lowrank +(.*)$/gm)].map(([, call = '']) => ({ page, call })),
    )
    expect(lines.length).toBeGreaterThan(10)
    for (const { page, call } of lines) {
      const [verb = '', ...words] = call
        .replace(/ #.*/, '')
        .replace(/"[^"]*"/g, '""')
        .split(/\s+/)
      expect(verbs, `${page}: ${call}`).toContain(verb)
      const unknown = words.filter((word) => word.startsWith('--') && !flagsOf(verb).includes(word))
      expect(unknown, `${page}: ${call}`).toEqual([])
    }
  })
})

describe('docs/api.md', () => {
  const index = read('lib/index.ts')
  const listed = [...index.matchAll(/export (?:type )?\{([^}]*)\}/g)]
    .flatMap(([, names = '']) => names.split(','))
    .map((name) => name.trim().replace(/^type /, ''))
    .filter(Boolean)
  const whole = [...index.matchAll(/export (?:type )?\* from '\.\/(.*)\.js'/g)].flatMap(([, path]) =>
    [
      ...read(`lib/${path}.ts`).matchAll(/^export (?:(?:class|function|const|type|interface) |\{ )(\w+)/gm),
    ].map(([, name]) => name as string),
  )
  const exported = new Set([...listed, ...whole])

  it('names everything that the package exports', () => {
    expect(Object.keys(api).filter((name) => !exported.has(name))).toEqual([])
    const page = read('docs/api.md')
    expect([...exported].filter((name) => !new RegExp(`\\b${name}\\b`).test(page))).toEqual([])
  })

  it('and the other pages import nothing that does not exist', () => {
    const imports = ofLanguage('js', 'ts').flatMap(({ text }) => [
      ...text.matchAll(/import \{([^}]*)\} from 'lowrank'/g),
    ])
    expect(imports.length).toBeGreaterThan(1)
    const names = imports.flatMap(([, list = '']) => list.split(',').map((name) => name.trim()))
    expect(names.filter((name) => !exported.has(name))).toEqual([])
  })

  it('names the code of every error', () => {
    const rows = rowsByKey(read('docs/api.md'))
    for (const [name, value] of Object.entries(api)) {
      if (!name.endsWith('Error') || name === 'LowrankError') continue
      const { code } = new (value as typeof api.ConfigError)('')
      expect(rows.get(name)?.[0]?.[0], name).toBe(`\`${code}\``)
      expect(read('docs/troubleshooting.md'), name).toContain(`\n## \`${code}\`\n`)
    }
  })
})

describe('examples', () => {
  it('of configs are valid', () => {
    const configs = ofLanguage('yaml').filter(({ text }) => text.startsWith('model:'))
    expect(configs.length).toBeGreaterThan(1)
    for (const { page, text } of configs) resolveConfig(parse(text), { name: page, spelling: 'snake' }, root)
  })

  it('of JSON are JSON, line by line', () => {
    for (const { page, text } of ofLanguage('json'))
      for (const line of text.trim().split('\n'))
        expect(() => JSON.parse(line), `${page}: ${line}`).not.toThrow()
  })
})

describe('links', () => {
  /** As GitHub makes them. */
  const anchors = (text: string) =>
    [...text.replace(/^```[\s\S]*?^```$/gm, '').matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) =>
      heading
        .toLowerCase()
        .replace(/[^\p{L}\p{N}\s_-]/gu, '')
        .replaceAll(' ', '-'),
    )

  it.each(pages)('of %s lead to files and headings that exist', (page) => {
    const text = read(page).replace(/^```[\s\S]*?^```$/gm, '')
    for (const [, target = ''] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^https?:/.test(target)) continue
      const [path = '', anchor] = target.split('#')
      const file = path === '' ? join(root, page) : join(root, dirname(page), path)
      expect(existsSync(file), target).toBe(true)
      if (anchor !== undefined) expect(anchors(read(relative(root, file))), target).toContain(anchor)
    }
  })

  it('from the README reach every page, and each strategy from the page of all', () => {
    const linked = new Set(
      ['README.md', 'docs/strategies.md'].flatMap((page) =>
        [...read(page).matchAll(/\]\(([^)\s#]+)/g)].map(([, target = '']) => join(dirname(page), target)),
      ),
    )
    expect(pages.filter((page) => page !== 'README.md' && !linked.has(page))).toEqual([])
  })
})
