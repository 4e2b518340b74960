export function withAdditions(page: string): string
