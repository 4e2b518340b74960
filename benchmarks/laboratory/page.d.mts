/** Types of page.mjs, for tests. */
export function withFigures(page: string, docs: string): string
