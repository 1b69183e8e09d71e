"""The course as a site: the lessons as pages whose explorers and questions need no kernel and no network."""
