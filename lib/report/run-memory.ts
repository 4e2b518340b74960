/** The memory of a run by category, planned and allocated, and the resident memory of its process. */
import { barChart, extent, formatSize, formatTick, lineChart, type Part } from './chart/index.js'
import type { RunChart } from './run-chart.js'
import type { RunPageData } from './run-data.js'
import { plannedProcess } from './run-words.js'

/** Hue by kind, shade by category: see `parts` in the palette. */
export const CATEGORY_COLORS: Readonly<Record<string, number>> = {
  ...{ weights: 0, quantization_constants: 1, paged_weights: 2, adapters: 3, gradients: 4, optimizer: 5 },
  ...{ activations: 6, loss: 7, workspace: 8, kv_cache: 8 },
}

export function categoryName(category: string): string {
  return category.replaceAll('_', ' ')
}

/** The memory record with the most bytes allocated. */
export function mostAllocated({ memory }: RunPageData): RunPageData['memory'][number] | undefined {
  const total = (one: RunPageData['memory'][number]) =>
    Object.values(one.allocated).reduce((sum, bytes) => sum + bytes, 0)
  return memory.reduce<RunPageData['memory'][number] | undefined>(
    (most, one) => (most === undefined || total(one) > total(most) ? one : most),
    undefined,
  )
}

/**
 * True if the engine allocated activations, loss, and workspace as one block, so that only the plan tells them apart.
 */
export function inOneBlock(run: RunPageData): boolean {
  const held = mostAllocated(run)?.allocated
  const planned = run.plan?.rows.find(({ category }) => category === 'loss')?.bytes ?? 0
  return held !== undefined && planned > 0 && (held.loss ?? 0) === 0
}

const BLOCK: readonly string[] = ['activations', 'loss', 'workspace']

export const isInBlock = (category: string) => BLOCK.includes(category)

/** Puts the categories of the block last, so that they are adjacent in charts and tables. */
export function blockLast<Row extends { category: string }>(rows: readonly Row[]): Row[] {
  const [others, block] = [false, true].map((inside) =>
    rows.filter(({ category }) => isInBlock(category) === inside),
  ) as [Row[], Row[]]
  return [...others, ...block]
}

export function memoryCharts(run: RunPageData): Record<string, RunChart> {
  const { plan, memory } = run
  if (plan === null) return {}
  const part = (category: string, value: number): Part => ({
    name: categoryName(category),
    value,
    color: CATEGORY_COLORS[category] ?? 8,
  })
  const bars = [
    { name: 'planned', parts: blockLast(plan.rows).map(({ category, bytes }) => part(category, bytes)) },
  ]
  const held = mostAllocated(run)
  const allocated = Object.entries(held?.allocated ?? {}).map(([category, bytes]) => ({ category, bytes }))
  if (held)
    bars.push({
      name: 'allocated',
      parts: blockLast(allocated).map(({ category, bytes }) =>
        category === 'activations' && inOneBlock(run)
          ? { ...part(category, bytes), name: 'activations, loss, and workspace' }
          : part(category, bytes),
      ),
    })
  const rests = memory.length > 1
  const planned = plannedProcess(run)
  return {
    memory: {
      width: 918,
      draw: (width) => ({ svg: barChart({ title: 'Memory at the peak', width, groups: [{ bars }] }) }),
    },
    ...(rests
      ? {
          resident: {
            width: 440,
            draw: (width: number) => ({
              svg: lineChart({
                ...{ title: 'Resident memory of the process', width, height: 190, yTicks: 3, sizes: true },
                ...{ xFormat: (value: number) => `${formatTick(value)} s`, yFormat: formatSize, left: 66 },
                description: `at most ${formatSize(extent(memory.map(({ resident }) => resident))?.[1])}`,
                yDomain: [0, Math.max(planned ?? 0, ...memory.map(({ resident }) => resident)) * 1.12],
                levels:
                  planned === null
                    ? []
                    : [
                        { value: plan.runtime_bytes ?? 0, name: 'Node.js', at: 'left' },
                        { value: planned, name: 'planned with Node.js', at: 'left' },
                      ],
                lines: [
                  {
                    x: memory.map(({ time }) => time),
                    y: memory.map(({ resident }) => resident),
                    hue: 0,
                    area: true,
                  },
                ],
              }).svg,
            }),
          },
        }
      : {}),
  }
}
