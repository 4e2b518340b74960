export function spreadsheet(csv: string): Buffer
export function windows1252(text: string): Buffer
