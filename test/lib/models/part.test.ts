/** Parts of graphs for ranks that share the layers. */
import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import type { GraphNode } from '../../../lib/graph/graph.js'
import { graphOf } from '../../../lib/models/index.js'
import { graphPart, layerRanges, ranksOfNodes } from '../../../lib/models/part.js'

const models = fileURLToPath(new URL('../../parity/models', import.meta.url))
const folders = readdirSync(models, { withFileTypes: true }).filter((entry) => entry.isDirectory())
const graphs = folders.flatMap(({ name }) => {
  const graph = graphOf(JSON.parse(readFileSync(`${models}/${name}/config.json`, 'utf8')))
  return Array.from({ length: graph.layers }, (_, i) => [name, i + 1, graph] as const)
})

/** A node without the numbers of its values and its layer. */
function described(node: GraphNode) {
  const values = ['x', 'q', 'k', 'v', 'gate', 'up', 'beta', 'alpha', 'residual', 'out', 'layer']
  return Object.fromEntries(Object.entries(node).filter(([key]) => !values.includes(key)))
}

test.each(graphs)('%s in %i parts: they have the nodes and weights of the whole', (_, count, graph) => {
  const parts = Array.from({ length: count }, (_, index) => graphPart(graph, index, count))
  const own = parts.map(({ nodes }) => nodes.filter(({ op }) => op !== 'receive' && op !== 'send'))
  expect(own.flat().map(described)).toEqual(graph.nodes.map(described))
  expect(new Set(parts.flatMap(({ weights }) => weights.map(({ name }) => name)))).toEqual(
    new Set(graph.weights.map(({ name }) => name)),
  )
  const ranks = ranksOfNodes(graph, count)
  for (const [index, { nodes, values, part }] of parts.entries()) {
    expect(nodes[0]?.op).toBe(index === 0 ? graph.nodes[0]?.op : 'receive')
    expect(nodes.at(-1)?.op).toBe(index === count - 1 ? 'lm_head' : 'send')
    expect(own[index]?.every(({ path }) => ranks.get(path) === index)).toBe(true)
    expect(values.map(({ id }) => id)).toEqual(values.map((_, id) => id))
    if (count === 1) continue
    // Dropout is drawn by the place of a node in the whole.
    const [node] = nodes.slice(index === 0 ? 0 : 1) as [GraphNode]
    const place = graph.nodes.findIndex(({ path }) => path === node.path)
    expect(place).toBe((part?.firstNode as number) + nodes.indexOf(node))
  }
})

test('layers are divided evenly, the first ranks with one more', () => {
  expect(layerRanges(7, 3)).toEqual([
    { first: 0, end: 3 },
    { first: 3, end: 5 },
    { first: 5, end: 7 },
  ])
  expect(() => layerRanges(2, 3)).toThrow('there are 3 ranks for the 2 layers of the model')
})
