export function withFigures(page: string): string
