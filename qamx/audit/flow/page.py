def write_page(report, out):
    return out
