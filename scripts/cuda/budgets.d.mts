/** What a kernel uses on each target, and its instructions. */
export interface Usage {
  registers: number[]
  stack?: number[]
  shared?: number[]
  instructions: number
}

export function budgetsOf(): Record<string, Usage>

export function excesses(
  table: Record<string, Usage>,
  complete: boolean,
  budgets?: Record<string, Usage>,
): string[]
